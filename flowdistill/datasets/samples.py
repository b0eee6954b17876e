"""The samples of a tar shard: members in a row whose names have one key.

'a/0001.jpg' and 'a/0001.txt' are the sample 'a/0001', as in webdataset.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from flowdistill.datasets.formats import ENDINGS
from flowdistill.datasets.tar import Member

TEXTS = ('txt', 'json')  # endings of captions
LATENTS = ('npy', 'npz')
META = re.compile(r'__[^/]*__($|/)')  # of webdataset itself
UNSAFE = 'a name that leads out of the shard'


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
  """The members of a key.

  Attributes:
    key: of the sample.
    members: of the archive, by ending in lower case: ('seg.png', member).
    fault: why it cannot be used, whatever is looked for; else ''.
  """

  key: str
  members: Sequence[tuple[str, Member]]
  fault: str = ''


def grouped(members: Iterable[Member]) -> Iterator[Sample]:
  """The samples of an archive's members, in order."""
  named = ((split_name(m.name), m) for m in members if not META.match(m.name))
  of_keys = ((*parts, m) for parts, m in named if parts is not None)
  for key, group in itertools.groupby(of_keys, lambda each: each[0]):
    found = [(ending, member) for _, ending, member in group]
    yield Sample(key, found, fault_of(key, [m for _, m in found]))


def split_name(name: str) -> tuple[str, str] | None:
  """'a/0001.seg.PNG' -> ('a/0001', 'seg.png'); None without an ending."""
  from webdataset.tariterators import base_plus_ext

  key, ending = base_plus_ext(name.removeprefix('./'))
  return None if key is None or ending is None else (key, ending.lower())


def fault_of(key: str, members: Sequence[Member]) -> str:
  """Why a sample is refused for its names and kinds; '' if it is not."""
  if key.startswith('/') or '..' in key.split('/'):
    return UNSAFE
  if not all(member.regular and member.sparse is None for member in members):
    return 'a link, a device or a sparse file'
  return ''


@dataclasses.dataclass(frozen=True)
class Wanted:
  """Which members of a sample are its picture and its caption.

  Attributes:
    image: ending of the picture, such as 'jpg', or of the latents; None takes
      the only member that ends as one does.
    caption: ending of the caption, 'txt' or 'json' or one that ends in these,
      such as 'short.txt'; None takes the only one.
    latents: whether there are latents in place of a picture, .npy or .npz.
  """

  image: str | None = None
  caption: str | None = None
  latents: bool = False

  def __post_init__(self) -> None:
    if self.image is not None and not self._ends(self.image):
      what = "latents, 'npy'" if self.latents else "a picture, such as 'jpg'"
      raise ValueError(f'image = {self.image!r} must be the ending of {what}')
    if self.caption is not None and not is_text(self.caption):
      raise ValueError(
        f"caption = {self.caption!r} must be 'txt' or 'json', or end in one; "
        'the key in a .json is json_key'
      )

  def is_image(self, ending: str) -> bool:
    """Whether a member with this ending is the picture."""
    return self._ends(ending) if self.image is None else ending == self.image

  def _ends(self, ending: str) -> bool:
    return is_latents(ending) if self.latents else is_image(ending)

  def is_text(self, ending: str) -> bool:
    """Whether a member with this ending is the caption."""
    return is_text(ending) if self.caption is None else ending == self.caption

  def fault(self, images: int, texts: int) -> str:
    """Why a sample with so many pictures and captions is none; else ''."""
    if images != 1:
      hint = '; choose one by image' if images and self.image is None else ''
      one, two = (
        ('latents', 'latents') if self.latents else ('picture', 'pictures')
      )
      return f'{f"two {two}" if images else f"no {one}"}{hint}'
    if texts != 1:
      hint = '; choose one by caption' if texts and self.caption is None else ''
      return f'{"two captions" if texts else "no caption"}{hint}'
    return ''

  def choose(self, sample: Sample) -> tuple[Member, Member, bool] | str:
    """(picture, caption, whether it is JSON) of a sample, or its fault."""
    if sample.fault:
      return sample.fault
    images = [m for ending, m in sample.members if self.is_image(ending)]
    texts = [(m, e) for e, m in sample.members if self.is_text(e)]
    if fault := self.fault(len(images), len(texts)):
      return fault
    (image,), ((text, ending),) = images, texts
    return image, text, ending.endswith('json')


def is_image(ending: str) -> bool:
  """Whether an ending is that of a picture: 'jpg', 'left.png'."""
  return f'.{ending.rpartition(".")[2]}' in ENDINGS


def is_latents(ending: str) -> bool:
  """Whether an ending is that of latents: 'npy', 'vae.npz'."""
  return ending.rpartition('.')[2] in LATENTS


def is_text(ending: str) -> bool:
  """Whether an ending is that of a caption: 'txt', 'blip.json'."""
  return ending.rpartition('.')[2] in TEXTS
