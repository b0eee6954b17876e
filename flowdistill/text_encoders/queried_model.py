"""A language model with queries behind the prompt, and a connector, in PyTorch.

Imported when the first caption is encoded, as `torch_models.py` is.
"""

import dataclasses
import pathlib
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
PARTS = ('meta_queries', 'connector', 'projector')
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
  own = below(weights, name)
  if own.keys() != {'weight', 'bias'}:
    raise ValueError(f'{name}.* must be weight and bias, and is {[*own]}')
  made = torch.nn.Linear(*reversed(own['weight'].shape))
  made.load_state_dict(own)
  return made


def below(weights: Weights, prefix: str) -> Weights:
  """Those of a module, by its own names.

  Raises:
    ValueError: if there are none.
  """
  start = f'{prefix}.'
  found = {
    name.removeprefix(start): array
    for name, array in weights.items()
    if name.startswith(start)
  }
  if not found:
    raise ValueError(f'there is no {start}*')
  return found


def queries_of(weights: Weights, connector: Connected) -> torch.Tensor:
  """The queries [n, width], as a connector takes their states.

  Raises:
    ValueError: if it does not.
  """
  queries = weights['meta_queries']
  if queries.ndim != 2 or not len(queries) or not queries.is_floating_point():
    raise ValueError(
      f'meta_queries has the shape {list(queries.shape)} of {queries.dtype}, '
      'and must be [n, width] of real numbers'
    )
  with torch.inference_mode():
    connector(queries[None, :1].float())
  return queries


def queried(
  llm: Any, connector: Connected, queries: torch.Tensor, running: Running
) -> Queried:
  """The parts together, on their device.

  Raises:
    ValueError: if the queries are not as wide as the language model, or more
      than it reads.
  """
  device, dtype = device_of(running.device), getattr(torch, running.dtype)
  number, width = queries.shape
  if width != llm.config.hidden_size:
    raise ValueError(
      f'its language model has {llm.config.hidden_size} channels, and the '
      f'queries have {width}'
    )
  if number >= llm.config.max_position_embeddings:
    raise ValueError(f'it must read more than the {number} queries')
  parts = [
    part.eval().requires_grad_(False).to(device, dtype)
    for part in (llm, connector)
  ]
  return Queried(*parts, queries.to(device, dtype))


def read(file: pathlib.Path) -> Weights:
  """The weights of the connector in a file, with the queries.

  The pickle in a .pth is never executed.
  """
  if file.suffix == '.pth':
    found = torch.load(file, map_location='cpu', weights_only=True, mmap=True)
    found = found.get('state_dict', found)
    return {name: found[name].clone() for name in found if is_part(name)}
  with safetensors.safe_open(file, 'pt') as found:
    return {n: found.get_tensor(n) for n in filter(is_part, found.keys())}


def is_part(name: str) -> bool:
  """Whether a tensor belongs to the connector or to the queries."""
  return name.partition('.')[0] in PARTS
