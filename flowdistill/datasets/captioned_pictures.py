"""Captioned pictures by index, each picture with its own caption."""

from typing import Any, Protocol

import numpy as np

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captions import Captions
from flowdistill.datasets.decoders import Decoder
from flowdistill.datasets.pictures import Encoded, Pictures
from flowdistill.flow.spec import CONTROL


class CaptionedFiles(Encoded, Protocol):
  """Files of pictures (see `Encoded`), with their captions.

  `read` also refuses a picture whose caption cannot be read.
  """

  def caption(self, place: int, /) -> str: ...


class CaptionedPictures(Pictures):
  """Pictures with `captions`, of random access.

  The caption of a picture that cannot be read is that of the one that takes its
  place, once the picture was asked for.

  Args:
    encoded: the files and captions.
    decoder: see `Pictures`.
    max_broken: see `Pictures`.
    buckets: see `Pictures`.
    files: what has `stamps`, (modification time, size) by path.
    shapes: see `Pictures`.
  """

  def __init__(
    self,
    encoded: CaptionedFiles,
    decoder: Decoder,
    *,
    max_broken: float,
    files: Any,
    buckets: Buckets | None = None,
    shapes: np.ndarray | None = None,
  ):
    super().__init__(
      encoded, decoder, max_broken=max_broken, buckets=buckets, shapes=shapes
    )
    self.captioned, self.files = encoded, files

  @property
  def mirrors(self) -> bool:
    """Whether mirrored pictures are right: of control pictures none is."""
    return CONTROL not in self.spec.cond

  @property
  def captions(self) -> Captions:
    """The captions, read when they are indexed."""
    return Captions(self)

  def caption(self, index: int) -> str:
    """The caption of the picture that has this index.

    Raises:
      ValueError: if more than `max_broken` cannot be read.
    """
    for place in range(index, index + len(self)):
      place %= len(self)
      name = self.captioned.name(place)
      if name not in self.broken:
        try:
          return self.captioned.caption(place)
        except (ValueError, OSError) as error:
          self._note(name, str(error))
    raise ValueError(f'none of the {len(self)} captions can be read')
