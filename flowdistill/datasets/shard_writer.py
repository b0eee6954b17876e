"""Writes captioned pictures as shards: tar files of webdataset, or parquet.

Equal examples give equal bytes: the pictures are PNG files, and nothing in a
shard says when it was written. A shard has its name once it is complete.
Latents are written as they are in their cache, as .npy or .npz in tar files.
"""

import io
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image

from flowdistill.datasets.index_files import index_path, make_index, read_index
from flowdistill.datasets.shards import sizes_of
from flowdistill.files.atomic import replacing
from flowdistill.files.npz import write_npz
from flowdistill.flow.pixels import to_uint8

AT_ONCE = 64  # pictures that are read at once
ROWS = 16  # of a row group: what is read to have one of them
MOST = 999_999  # shards, whose names have six digits


class Row(NamedTuple):
  """A captioned picture in a shard: its key, its file, and the caption."""

  key: str
  ending: str
  image: bytes
  text: str


Write = Callable[[BinaryIO, Iterator[Row]], None]


def check_source(source: Any, kind: str) -> None:
  """Raises ValueError unless a source has what a kind of shards can hold."""
  if not hasattr(source, '__getitem__'):
    raise ValueError('it is a stream, and must have an index')
  if getattr(source, 'captions', None) is None:
    raise ValueError('its examples have no captions')
  if getattr(source, 'pictures', None) is not None:
    check_latents(source, kind)
    return
  shape = source.spec.shape
  if len(shape) != 3 or shape[-1] not in (1, 3):
    raise ValueError(
      f'its examples {[*shape]} must be pictures [h, w, 1 or 3], as PNG files '
      'are written'
    )


def check_latents(source: Any, kind: str) -> None:
  """Raises ValueError unless latents can be written."""
  if kind != 'webdataset':
    raise ValueError(f'its examples are latents, which {kind} does not hold')
  if not hasattr(source, 'stored'):
    raise ValueError('its latents are in shards already')
  if source.flip:
    raise ValueError(
      'flip = True has no effect: mirrored images are not written'
    )


def write_shards(
  source: Any, folder: pathlib.Path, *, kind: str, per_shard: int
) -> list[pathlib.Path]:
  """Writes the shards that are missing; returns the paths of all.

  Args:
    source: of examples in [-1, 1] by index, with `captions`.
    folder: that exists, and has no other shards.
    kind: one of `KINDS`.
    per_shard: examples of a shard; the last one may have fewer.

  Raises:
    ValueError: as `check_source`, or for more than `MOST` shards.
    OSError: if a file cannot be written.
  """
  check_source(source, kind)
  sizes = sizes_of(len(source), per_shard)
  if len(sizes) > MOST:
    raise ValueError(f'{len(sizes):,} shards are more than {MOST:,}')
  ending, write = KINDS[kind]
  paths = [folder / f'{k:06d}.{ending}' for k in range(len(sizes))]
  for k, path in enumerate(paths):
    first = k * per_shard
    if not path.exists():
      with replacing(path) as file:
        write(file, examples(source, range(first, first + sizes[k])))
    if ending == 'tar' and not is_indexed(path):
      make_index(str(path))
  return paths


def examples(source: Any, numbers: range) -> Iterator[Row]:
  """The examples of some numbers, encoded."""
  for start in range(0, len(numbers), AT_ONCE):
    rows = numbers[start : start + AT_ONCE]
    files = encoded(source, np.asarray(rows))
    for number, (ending, data) in zip(rows, files, strict=True):
      yield Row(f'{number:09d}', ending, data, source.captions[number])


def encoded(source: Any, index: np.ndarray) -> Iterator[tuple[str, bytes]]:
  """(ending, file) of the pictures, or latents, of an index [b]."""
  if getattr(source, 'pictures', None) is None:
    for pixels in to_uint8(source[index]['x0']):
      yield 'png', as_png(pixels)
    return
  arrays = source.stored(index)
  for k in range(len(index)):
    yield as_arrays({name: array[k] for name, array in arrays.items()})


def as_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[str, bytes]:
  """('npy', the file) of one array, ('npz', the file) of several."""
  file = io.BytesIO()
  if len(arrays) == 1:
    (array,) = arrays.values()
    np.save(file, np.ascontiguousarray(array))
    return 'npy', file.getvalue()
  write_npz(file, arrays)
  return 'npz', file.getvalue()


def as_png(pixels: np.ndarray) -> bytes:
  """A PNG file of a picture, uint8 [h, w, 1 or 3]."""
  pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


def is_indexed(shard: pathlib.Path) -> bool:
  """Whether the index beside a shard is of this shard."""
  try:
    return index_path(str(shard)).exists() and bool(read_index(str(shard)))
  except ValueError:
    return False


def write_tar(file: BinaryIO, rows: Iterator[Row]) -> None:
  """A tar shard, by webdataset's writer: KEY.png, KEY.txt, and so on."""
  from webdataset.writer import TarWriter

  writer: Any = TarWriter(file, encoder=False, mtime=0)
  with writer:
    for key, ending, image, text in rows:
      writer.write({'__key__': key, ending: image, 'txt': text.encode()})


def write_parquet(file: BinaryIO, rows: Iterator[Row]) -> None:
  """A parquet file with the columns key, text and image_bytes."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  types = {'key': pa.string(), 'text': pa.string(), 'image_bytes': pa.binary()}
  schema = pa.schema([*types.items()])
  compression: Any = dict.fromkeys(types, 'zstd') | {'image_bytes': 'none'}
  with pq.ParquetWriter(file, schema, compression=compression) as writer:
    while part := [*itertools.islice(rows, ROWS)]:
      keys, _, images, texts = map(list, zip(*part, strict=True))
      columns = {'key': keys, 'text': texts, 'image_bytes': images}
      writer.write_table(pa.table(columns, schema), row_group_size=ROWS)


KINDS: Mapping[str, tuple[str, Write]] = {
  'webdataset': ('tar', write_tar),
  'parquet': ('parquet', write_parquet),
}
