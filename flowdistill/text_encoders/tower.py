"""A text encoder of one model, which a row describes."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.text_encoders.encoder import (
  POOLED,
  TEXT,
  Arrays,
  check_length,
  in_batches,
  in_row,
  padded,
)
from flowdistill.text_encoders.folder import (
  check_installed,
  check_model,
  check_tokenizer,
  folder_of,
  hashes_of,
  loading,
)
from flowdistill.text_encoders.rows import Row
from flowdistill.text_encoders.running import Running


@dataclasses.dataclass(frozen=True)
class Tower:
  """A model of transformers that encodes captions as its row says.

  Attributes:
    name: of the row.
    row: how prompts are read.
    path: the folder of the model.
    tokenizer: that of the tokenizer.
    length: tokens that are encoded.
    running: how it runs.
    keys: the names of `path` and `tokenizer` in the config.
  """

  name: str
  row: Row
  path: str
  tokenizer: str
  length: int
  running: Running
  keys: tuple[str, str] = ('path', 'tokenizer')

  def __post_init__(self) -> None:
    check_length(self.length, self.row.most)

  @property
  def masked(self) -> bool:
    """Whether padding is ignored."""
    return self.row.masked

  def check(self) -> None:
    """Raises ValueError if files are missing, or PyTorch."""
    check_model(self.keys[0], self.path)
    check_tokenizer(self.keys[1], self.tokenizer)
    check_installed()

  def about(self) -> Mapping[str, Any]:
    """The row, and the hashes of all files."""
    return {
      'name': self.name,
      **dataclasses.asdict(self.row),
      'length': self.length,
      'dtype': self.running.dtype,
      'files': {
        key: hashes_of(key, path)
        for key, path in zip(self.keys, self._folders, strict=True)
      },
    }

  @property
  def _folders(self) -> tuple[str, str]:
    return self.path, self.tokenizer

  @functools.cached_property
  def _tokens(self) -> Any:
    from flowdistill.text_encoders.torch_models import load_tokenizer

    folder = folder_of(self.keys[1], self.tokenizer)
    with loading(self.keys[1], self.tokenizer):
      return load_tokenizer(folder)

  @functools.cached_property
  def _model(self) -> Any:
    from flowdistill.text_encoders.torch_models import load_model

    running, folder = self.running, folder_of(self.keys[0], self.path)
    with loading(self.keys[0], self.path, f' as a {self.row.model}'):
      return load_model(folder, self.row.model, running.dtype, running.device)

  @functools.cached_property
  def _drop(self) -> int:
    """The tokens of the template that are dropped."""
    if self.row.drop is not None:
      return self.row.drop
    (before,) = self._tokens([self.row.template.partition('{}')[0]])
    return len(before) - self.row.first - 1

  def drop(self, caption: str) -> int:
    """The tokens that are dropped from a caption in its template."""
    templates = self.row.null, self.row.template
    same = self.row.drop is not None or templates[0] == templates[1]
    return self._drop if caption or same else 0

  def prompt(self, caption: str) -> str:
    """A caption in its template; '' is the null condition."""
    template = self.row.template if caption else self.row.null
    said = caption.lower().strip() if self.row.lower else caption
    return template.replace('{}', said, 1)

  def sizes(self, captions: Sequence[str]) -> list[int]:
    """The tokens of whole captions, without those that are dropped."""
    rows = self._tokens([self.prompt(c) for c in captions])
    drops = map(self.drop, captions)
    return [len(row) - drop for row, drop in zip(rows, drops, strict=True)]

  def encode(self, captions: Sequence[str]) -> Arrays:
    """Captions -> `text`, `mask` and `pooled`, where the row has them."""
    return in_batches(self._batch, captions, self.running.batch_size)

  def _batch(self, captions: Sequence[str]) -> Arrays:
    row, drops = self.row, [self.drop(c) for c in captions]
    tokens, mask = self._padded(captions, drops)
    hidden, pooled = self._model(
      tokens, mask if row.masked else None, row.layer, row.pooled
    )
    found: Arrays = {} if pooled is None else {POOLED: pooled}
    if not row.text:
      return found
    if not row.masked:
      return {**found, TEXT: hidden}
    kept = [
      np.delete(h[real], slice(row.first, row.first + drop), axis=0)
      for h, real, drop in zip(hidden, mask, drops, strict=True)
    ]
    return {**found, **padded(kept, self.length)}

  def _padded(
    self, captions: Sequence[str], drops: Sequence[int]
  ) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of captions, [b, n], and which of them are real."""
    rows = [
      self._tokens([self.prompt(caption)], self.length + drop)[0]
      for caption, drop in zip(captions, drops, strict=True)
    ]
    longest = max(map(len, rows)) if self.row.masked else self.length
    return in_row(rows, longest, self._tokens.padding)
