"""A language model with queries behind the prompt, and a connector, in PyTorch.

Imported when the first caption is encoded, as `torch_models.py` is.
"""

import dataclasses
import pathlib
import pickle
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import transformers
from transformers.models.siglip.modeling_siglip import SiglipEncoder

from flowdistill.text_encoders.running import Running
from flowdistill.text_encoders.torch_models import device_of, numbers

HEAD = 64  # numbers of a head of the connector, in all published ones
FIRST = 'layers.0.input_layernorm.weight'  # of a language model
CONFIGS = ('llm_config', 'text_config')  # of the authors, of transformers
UNREADABLE = (
  OSError,
  KeyError,
  RuntimeError,
  ValueError,
  pickle.UnpicklingError,
  safetensors.SafetensorError,
)
Weights = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Queried:
  """Tokens [b, n] -> the states of the queries, connected.

  Attributes:
    llm: a Qwen2 without its last layer.
    connector: the layers behind it.
    queries: [length, width].
  """

  llm: Any
  connector: torch.nn.Module
  queries: torch.Tensor

  @property
  def length(self) -> int:
    """The number of queries."""
    return len(self.queries)

  @property
  def most(self) -> int:
    """The tokens of a prompt that the model reads."""
    return self.llm.config.max_position_embeddings - self.length

  def __call__(self, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[b, length, width] of prompts [b, n], of which `mask` has the real ones.

    The queries follow the last real token, whatever padding lies between.
    """
    queries = self.queries.expand(len(tokens), -1, -1)
    device = queries.device
    with torch.inference_mode():
      said = self.llm.embed_tokens(torch.as_tensor(tokens, device=device))
      real = torch.as_tensor(
        np.pad(mask, ((0, 0), (0, self.length)), constant_values=True),
        device=device,
      )
      states = self.llm(
        inputs_embeds=torch.cat([said, queries], dim=1),
        attention_mask=real,
        position_ids=(real.cumsum(dim=1) - 1).clamp(min=0),
      ).last_hidden_state[:, -self.length :]
      return numbers(self.connector(states))


class Connected(torch.nn.Module):
  """Transformer layers without a mask, with linear layers around them."""

  def __init__(self, weights: Weights, ends: tuple[str, str]):
    super().__init__()
    layers = below(weights, 'connector')
    inner, width = layers['layers.0.mlp.fc1.weight'].shape
    config = transformers.SiglipVisionConfig(
      hidden_size=width,
      intermediate_size=inner,
      num_attention_heads=width // HEAD,
      num_hidden_layers=1 + max(int(name.split('.')[1]) for name in layers),
    )
    self.before, self.behind = (linear(weights, name) for name in ends)
    self.layers = SiglipEncoder(config)
    self.layers.load_state_dict(layers)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """States of the queries -> tokens."""
    return self.behind(self.layers(self.before(x)).last_hidden_state)


def linear(weights: Weights, name: str) -> torch.nn.Module:
  """The linear layer of this name, or for '' what changes nothing."""
  if not name:
    return torch.nn.Identity()
  made = torch.nn.Linear(*reversed(weights[f'{name}.weight'].shape))
  made.load_state_dict(below(weights, name))
  return made


def below(weights: Weights, prefix: str) -> Weights:
  """Those of a module, by its own names."""
  start = f'{prefix}.' if prefix else ''
  return {
    name.removeprefix(start): array
    for name, array in weights.items()
    if name.startswith(start)
  }


def load_queried(
  file: pathlib.Path, folder: str, ends: tuple[str, str], running: Running
) -> Queried:
  """The model, on its device.

  Args:
    file: with the queries and the connector.
    folder: of InternVL3.
    ends: the names of the linear layers before and behind the connector.
    running: how it runs.

  Raises:
    ValueError: if files have other weights.
  """
  dtype, device = getattr(torch, running.dtype), device_of(running.device)
  try:
    weights = read(file)
    connector = Connected(weights, ends)
    queries = weights['meta_queries']
  except UNREADABLE as error:
    raise ValueError(f'path = {str(file)!r} cannot be read: {error}') from error
  llm = language_model(folder, dtype)
  if queries.shape[1] != llm.config.hidden_size:
    raise ValueError(
      f'the queries of {str(file)!r} have {queries.shape[1]} numbers, and the '
      f'language model of {folder!r} has {llm.config.hidden_size}'
    )
  parts = [
    part.eval().requires_grad_(False).to(device, dtype)
    for part in (llm, connector)
  ]
  return Queried(*parts, queries.to(device, dtype))


def read(file: pathlib.Path) -> Weights:
  """The weights of a file; the pickle in a .pth is never executed."""
  if file.suffix == '.pth':
    return torch.load(file, map_location='cpu', weights_only=True, mmap=True)
  return safetensors.torch.load_file(file)


def language_model(folder: str, dtype: torch.dtype) -> Any:
  """The language model of a folder of InternVL3, of either layout.

  Raises:
    ValueError: if it has none, or another than Qwen2.
  """
  config, _ = transformers.PretrainedConfig.get_config_dict(
    folder, local_files_only=True
  )
  found = [config[name] for name in CONFIGS if name in config]
  if not found or found[0].get('model_type') != 'qwen2':
    raise ValueError(
      f'internvl3 = {folder!r} must be an InternVL3 with Qwen2, by '
      f'{" or ".join(CONFIGS)} of its config.json'
    )
  weights: Weights = {}
  for file in sorted(pathlib.Path(folder).glob('*.safetensors')):
    weights |= safetensors.torch.load_file(file)
  prefixes = [
    name.removesuffix(FIRST)
    for name in weights
    if name.endswith(FIRST) and 'language_model' in name
  ]
  if not prefixes:
    raise ValueError(f'internvl3 = {folder!r} has no weights of language_model')
  model, info = transformers.Qwen2Model.from_pretrained(
    None,
    config=transformers.Qwen2Config(**found[0]),
    state_dict=below(weights, prefixes[0].rstrip('.')),
    dtype=dtype,
    output_loading_info=True,
  )
  if info['missing_keys']:
    some = sorted(info['missing_keys'])[:3]
    raise ValueError(f'internvl3 = {folder!r} has no {", ".join(some)}')
  return model
