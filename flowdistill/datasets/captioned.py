"""Examples with captions, and conditions made of these."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.folder import say
from flowdistill.datasets.shard_stream import ShardStream
from flowdistill.datasets.source import Batch
from flowdistill.datasets.texts import (
  Encoder,
  Text,
  read_encoder,
  spec_of,
  too_long,
)
from flowdistill.flow.spec import DataSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Captioned:
  """A source with random access, whose captions are conditions, too.

  Everything else of the source, such as `figures`, is the same.

  Attributes:
    source: of the examples, with `captions`.
    encoder: of the captions.
  """

  source: Any
  encoder: Encoder

  @functools.cached_property
  def spec(self) -> DataSpec:
    """That of the source, with the conditions of the captions."""
    return spec_of(self.source.spec, self.encoder)

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    return {**self.source[index], **self._encoded(index)}

  def conditions(self, index: Any) -> Batch:
    """The conditions of the examples `index` [b]."""
    return {**self.source.conditions(index), **self._encoded(index)}

  @property
  def draw(self) -> Any:
    """Those of a source whose examples are random, with the conditions."""
    draw = self.source.draw  # there may be none
    if draw is None:
      return None

    def drawn(index: np.ndarray, epoch: np.ndarray, seed: int) -> Batch:
      return {**draw(index, epoch, seed), **self._encoded(index)}

    return drawn

  def cropped(self, index: np.ndarray, bucket: int) -> Batch:
    """Examples [b] of a source with buckets, cropped to one of them."""
    return {**self.source.cropped(index, bucket), **self._encoded(index)}

  def encoded_by(self, encoder: Encoder) -> 'Captioned':
    """The same examples, whose captions another encoder encodes."""
    return dataclasses.replace(self, encoder=encoder)

  def _encoded(self, index: Any) -> Batch:
    captions = [self.source.captions[i] for i in np.atleast_1d(index)]
    arrays = self.encoder.encode(captions)
    if np.ndim(index):
      return arrays
    return {name: rows[0] for name, rows in arrays.items()}

  def __getattr__(self, name: str) -> Any:
    if name == 'source':  # before it is set, as in a copy
      raise AttributeError(name)
    return getattr(self.source, name)


def with_text(source: Any, text: Text | None) -> Any:
  """A source whose captions are conditions; the same if `text` is None.

  Those of a stream are not known before they are read: it encodes them as they
  come, and leaves out those that are refused.

  Raises:
    ValueError: if it has no captions, or such conditions of its own, or a
      caption is refused.
  """
  if text is None:
    return source
  if isinstance(source, ShardStream):
    return source.encoded_by(text(()))
  captions: Any = getattr(source, 'captions', None)
  _, encoder = spec_with_text(source.spec, captions, text)
  if cut := too_long(encoder, captions, 'captions'):
    say(cut)
  return Captioned(source, encoder)


def spec_with_text(
  spec: DataSpec, captions: Sequence[str] | None, text: Text
) -> tuple[DataSpec, Encoder]:
  """The spec of examples with captions, and the encoder of these."""
  if captions is None:
    raise ValueError('text has no effect: these examples have no captions')
  encoder = text(captions)
  if both := sorted(spec.cond.keys() & encoder.conditions.keys()):
    raise ValueError(f'text makes {both}, which these examples have already')
  return spec_of(spec, encoder), encoder


def encoded_as(
  source: Any,
  record: Mapping[str, Any],
  read: Callable[[Mapping[str, Any]], Encoder] = read_encoder,
) -> Any:
  """A source of `with_text` with the encoder of other data; others unchanged.

  Words that those do not have are then a token of their own.

  Args:
    source: of the examples.
    record: of the encoder.
    read: makes it again.
  """
  if getattr(source, 'encoder', None) is None:
    return source
  return source.encoded_by(read(record))
