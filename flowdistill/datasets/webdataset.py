"""Captioned pictures in tar shards, as webdataset writes and reads them."""

import inspect

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.captioned_pictures import CaptionedPictures
from flowdistill.datasets.catalogue import counted
from flowdistill.datasets.decoders import Pixels
from flowdistill.datasets.folder import say
from flowdistill.datasets.index_files import COMMAND
from flowdistill.datasets.indexed_shards import (
  IndexedShards,
  are_indexed,
  check_faults,
)
from flowdistill.datasets.pictures import check_share
from flowdistill.datasets.samples import Wanted
from flowdistill.datasets.shard_paths import is_local, shard_paths
from flowdistill.datasets.shard_reading import ShardReader
from flowdistill.datasets.shard_stream import ShardStream
from flowdistill.datasets.split import check as check_split
from flowdistill.datasets.stored_latents import read_decoder
from flowdistill.datasets.texts import Text
from flowdistill.flow.spec import DataSpec


def webdataset(
  *,
  path: str = '',
  index: bool | None = None,
  commands: bool = False,
  image: str | None = None,
  caption: str | None = None,
  json_key: str = 'caption',
  latents: bool = False,
  size: int = 64,
  channels: int = 3,
  resize: str = 'centre_crop',
  buckets: Buckets | None = None,
  text: Text | None = None,
  buffer: int = 1000,
  num_samples: int | None = None,
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
  max_broken: float = 0.01,
) -> CaptionedPictures | Captioned | ShardStream:
  """Pictures and captions in tar shards, by index or as a stream.

  Args:
    path: of the shards: 'a.tar', 'a-{000..123}.tar', a folder, a URL (gs://,
      http://, https://), or 'pipe:COMMAND'.
    index: whether samples are read by index, through the indices beside local
      shards; False streams them, None streams them if there is no index.
    commands: whether 'pipe:COMMAND' may be run.
    image: ending of the picture in a sample, such as 'jpg', or of its latents;
      None takes the only member that ends as one does.
    caption: ending of the caption, 'txt' or 'json'; None takes the only one.
    json_key: of the caption in a .json.
    latents: whether samples have latents in place of pictures, in .npy or .npz;
      a manifest beside the shards says of which shape, and what made them.
    size: side of the square that every picture becomes, in pixels.
    channels: 3 for RGB, 1 for grey.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    buckets: shapes of about the area of the square, one for each batch of
      training (see `buckets.py`); None makes squares.
    text: what makes conditions of the captions (see `texts.py`); None for no
      such conditions. Of a stream, `words` needs a vocabulary.
    buffer: samples of a stream that are shuffled together.
    num_samples: the length of an epoch of a stream, None if unknown.
    split: 'all', 'train' or 'validation', by a hash of a sample's key.
    validation: share of the samples that are held out, in [0, 1].
    held_out: a file with the keys of held-out samples, one per line, which
      replaces the hash; with an index only.
    max_broken: largest share of samples that cannot be used; above it, opening
      or reading fails.

  Raises:
    ValueError: if a shard is not there, an index is stale, or an option is out
      of range or has no effect.
  """
  check_share(max_broken)
  check_split(split, validation)
  if not json_key:
    raise ValueError("json_key = '' must be a key of the .json")
  wanted = Wanted(image, caption, latents)
  pixels = Pixels(DataSpec((size, size, channels)), resize)
  shards = shard_paths(path, commands=commands)
  if latents:
    check_idle(size=size, channels=channels, resize=resize, buckets=buckets)
  decoder = read_decoder(shards) if latents else pixels
  if by_index(shards, path, index):
    if num_samples is not None:
      raise ValueError(
        f'num_samples = {num_samples} has no effect with an index; set index = '
        'False'
      )
    samples = IndexedShards(shards, wanted, json_key)
    whole = len(samples)
    count = whole + len(samples.faults)
    left = check_faults(samples.faults, count, max_broken, path)
    said = f'{counted(whole, "sample")} in {counted(len(shards), "shard")}'
    say(f'{path!r}: {said}' + (f'; left out: {left}' if left else ''))
    if not whole:
      raise ValueError(f'path = {path!r} has no sample')
    samples.keep(split, validation=validation, held_out=held_out)
    pictures = CaptionedPictures(
      samples,
      decoder,
      max_broken=max_broken,
      files=samples,
      buckets=buckets,
      shapes=samples.shape,
    )
    return with_text(pictures, text)
  if buckets is not None:
    raise ValueError(
      'buckets need an index, as a stream has an order of its own: make it by '
      f'{COMMAND}{path!r}'
    )
  check_stream(buffer, num_samples, held_out)
  say(f'{path!r}: a stream of {counted(len(shards), "shard")}')
  stream = ShardStream(
    shards,
    decoder,
    ShardReader(wanted, split, validation),
    json_key,
    buffer,
    num_samples,
    max_broken,
  )
  return with_text(stream, text)


def check_idle(**given: int | str | Buckets | None) -> None:
  """Raises ValueError for an option that latents do not have."""
  for name, value in given.items():
    if value != inspect.signature(webdataset).parameters[name].default:
      raise ValueError(
        f'{name} = {value!r} has no effect with latents = True: a manifest '
        'beside the shards has their shape'
      )


def by_index(shards: tuple[str, ...], path: str, index: bool | None) -> bool:
  """Whether shards are read by index.

  Raises:
    ValueError: if they must be and have none.
  """
  if index is False:
    return False
  if not all(map(is_local, shards)):
    if index:
      raise ValueError(
        f'index = True: path = {path!r} must be local; set index = False'
      )
    return False
  found = are_indexed(shards, path)
  if index and not found:
    raise ValueError(
      f'index = True: the shards of path = {path!r} have none; make it by '
      f'{COMMAND}{path!r}'
    )
  return found


def check_stream(
  buffer: int, num_samples: int | None, held_out: str | None
) -> None:
  """Raises ValueError for an option of a stream that is out of range."""
  if buffer < 1:
    raise ValueError(f'buffer = {buffer} must be at least 1')
  if num_samples is not None and num_samples < 1:
    raise ValueError(f'num_samples = {num_samples} must be at least 1')
  if held_out is not None:
    raise ValueError(
      f'held_out = {held_out!r} needs an index: a stream is split by the hash'
    )
