"""Where a data set of TensorFlow Datasets lies prepared, and how it gets there.

It is read as array_record, by index, without TensorFlow and without the code
that prepared it, and never looked for in the network.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

FORMAT = 'array_record'
VERSION = re.compile(r'\d+\.\d+\.\d+')


def open_prepared(builder: str, data_dir: str | None) -> Any:
  """The read-only builder of TFDS for what lies prepared.

  Raises:
    ValueError: if nothing does, or it is of a format without an index.
  """
  import tensorflow_datasets

  if not builder:
    raise ValueError("builder = '' must name a data set of TFDS, as 'mnist'")
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  root = pathlib.Path(data_dir or default).expanduser()
  path = find(builder, root)
  try:
    return tensorflow_datasets.builder_from_directory(path, file_format=FORMAT)
  except ValueError as error:
    other = root / FORMAT
    raise ValueError(
      f'builder = {builder!r} in {path} has no index: {error} A folder holds '
      f'one format, so take data_dir = {str(other)!r}. '
      f'{how_to_prepare(builder, other, root / "downloads")}'
    ) from error


def find(builder: str, root: pathlib.Path) -> pathlib.Path:
  """The folder of a version, the newest if none is named.

  Raises:
    ValueError: if it is not there, or has several configs and none is named.
  """
  name, _, version = builder.partition(':')
  found = versions(root / name)
  configs = [p for p in sorted((root / name).glob('*')) if versions(p)]
  if not found and len(configs) == 1:
    found = versions(configs[0])
  elif not found and configs:
    choices = ', '.join(f'{name}/{config.name}' for config in configs)
    raise ValueError(f'builder = {builder!r} must be one of {choices}')
  found = [p for p in found if version in ('', p.name)]
  if not found:
    raise ValueError(
      f'builder = {builder!r} is not prepared in {root}. '
      f'{how_to_prepare(builder, root)}'
    )
  return found[-1]


def versions(path: pathlib.Path) -> list[pathlib.Path]:
  """The folders of prepared versions in a folder, the newest last."""
  found = [p.parent for p in path.glob('*/features.json')]
  numbered = [p for p in found if VERSION.fullmatch(p.name)]
  return sorted(numbered, key=lambda p: [*map(int, p.name.split('.'))])


def how_to_prepare(
  builder: str, root: pathlib.Path, downloads: pathlib.Path | None = None
) -> str:
  """The command that makes it readable here, from what is downloaded there."""
  made = f'{builder!r}, data_dir={str(root)!r}, file_format={FORMAT!r}'
  given = f'download_dir={str(downloads)!r}' if downloads else ''
  return (
    'This prepares it, with the extra tfds, which has TensorFlow: python -c '
    f'"import tensorflow_datasets as t; t.builder({made})'
    f'.download_and_prepare({given})"'
  )


def open_records(found: Any, examples: str) -> Sequence[bytes]:
  """The records of a split of TFDS, by index.

  Raises:
    ValueError: if there is no such split, or nothing in it.
  """
  from tensorflow_datasets import decode

  try:
    raw = decode.DeserializeMethod.RAW_BYTES
    return found.as_data_source(examples, deserialize_method=raw)
  except ValueError as error:
    there = ', '.join(found.info.splits)
    raise ValueError(
      f'examples = {examples!r} must be of the splits {there}: {error}'
    ) from error
