"""Frozen models and tokenizers of transformers, from local folders.

Imported when the first caption is encoded: PyTorch comes with the extra
`torch`. Neither code nor pickles of a folder are ever run.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

SAFE = {'local_files_only': True, 'trust_remote_code': False}


@dataclasses.dataclass(frozen=True, eq=False)
class Loaded:
  """A model on its device, which encodes tokens.

  Attributes:
    model: of transformers, frozen.
    device: that it is on.
  """

  model: Any
  device: torch.device

  def __call__(
    self, tokens: np.ndarray, mask: np.ndarray | None, layer: int, pooled: str
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens [b, n] -> a hidden state [b, n, width], and the pooled output.

    Args:
      tokens: of the captions.
      mask: of real tokens; None if all are read alike.
      layer: hidden state, -1 is the last one after the final norm.
      pooled: name of another output, '' for none.
    """

    def placed(array: np.ndarray) -> torch.Tensor:
      return torch.as_tensor(array.astype(np.int64), device=self.device)

    given = {} if mask is None else {'attention_mask': placed(mask)}
    with torch.inference_mode():
      found = self.model(
        placed(tokens), output_hidden_states=layer != -1, **given
      )
    hidden = (
      found.last_hidden_state if layer == -1 else found.hidden_states[layer]
    )
    return numbers(hidden), numbers(found[pooled]) if pooled else None


def numbers(x: torch.Tensor) -> np.ndarray:
  """A tensor as float32."""
  return x.to('cpu', torch.float32).numpy()


def load_model(
  folder: pathlib.Path, name: str, dtype: str, device: str
) -> Loaded:
  """A model of a class of transformers.

  Args:
    folder: with config.json and weights as .safetensors.
    name: of the class.
    dtype: in which it computes.
    device: of PyTorch; '' is the first GPU, if there is one.
  """
  model, info = getattr(transformers, name).from_pretrained(
    folder,
    use_safetensors=True,
    dtype=getattr(torch, dtype),
    output_loading_info=True,
    **SAFE,
  )
  if info['missing_keys']:
    some = sorted(info['missing_keys'])[:3]
    raise ValueError(f'its weights have no {", ".join(some)} for a {name}')
  chosen = device_of(device)
  return Loaded(model.eval().requires_grad_(False).to(chosen), chosen)


def device_of(name: str) -> torch.device:
  """A device of PyTorch; '' is the first GPU, or the CPU without one."""
  return torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
  """A tokenizer.

  Attributes:
    tokenizer: of transformers.
  """

  tokenizer: Any

  @property
  def padding(self) -> int:
    """The token that stands for none."""
    found = self.tokenizer.pad_token_id
    return self.tokenizer.eos_token_id if found is None else found

  def __call__(
    self, texts: Sequence[str], most: int | None = None
  ) -> list[list[int]]:
    """The tokens of texts, those of their ends included, at most `most`."""
    cut = {} if most is None else {'truncation': True, 'max_length': most}
    return self.tokenizer([*texts], **cut)['input_ids']


def load_tokenizer(folder: pathlib.Path) -> Tokens:
  """The tokenizer in a folder."""
  return Tokens(transformers.AutoTokenizer.from_pretrained(folder, **SAFE))
