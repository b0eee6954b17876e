"""The language model of InternVL3, from the folder of either layout.

Imported when the first caption is encoded, as `torch_models.py` is.
"""

import json
import pathlib
from typing import Any

import safetensors.torch
import torch
import transformers

FIRST = 'layers.0.input_layernorm.weight'  # of a language model
CONFIGS = ('llm_config', 'text_config')  # of the authors, of transformers
Weights = dict[str, torch.Tensor]


def language_model(folder: pathlib.Path, dtype: str) -> Any:
  """The language model of a folder of InternVL3, of either layout.

  Raises:
    ValueError: if it has none, or another than Qwen2.
  """
  given, _ = transformers.PretrainedConfig.get_config_dict(
    folder, local_files_only=True
  )
  found = [given[name] for name in CONFIGS if name in given]
  if not found or found[0].get('model_type') != 'qwen2':
    raise ValueError(f'{" or ".join(CONFIGS)} of its config.json is no Qwen2')
  config = {k: v for k, v in found[0].items() if 'attn_implementation' not in k}
  model, info = transformers.Qwen2Model.from_pretrained(
    None,
    config=transformers.Qwen2Config(**config),
    state_dict=of_language(folder),
    dtype=getattr(torch, dtype),
    output_loading_info=True,
  )
  for what in ('missing', 'unexpected', 'mismatched'):
    if wrong := info.get(f'{what}_keys'):
      some = sorted(map(str, wrong))[:3]
      raise ValueError(f'{what} weights: {", ".join(some)}')
  return model


def of_language(folder: pathlib.Path) -> Weights:
  """The weights of the only language model in a folder, by their own names.

  Raises:
    ValueError: if there is none, or another one.
  """
  index = folder / 'model.safetensors.index.json'
  names = [file.name for file in folder.glob('*.safetensors')]
  if index.is_file():
    names = json.loads(index.read_text())['weight_map'].values()
  weights: Weights = {}
  for name in sorted({*names}):
    weights |= safetensors.torch.load_file(folder / name)
  starts = [
    name.removesuffix(FIRST)
    for name in weights
    if name.endswith(FIRST) and 'language_model' in name
  ]
  if len(starts) != 1:
    raise ValueError(f'its files have {len(starts)} language models')
  (start,) = starts
  return {
    name.removeprefix(start): array
    for name, array in weights.items()
    if name.startswith(start)
  }
