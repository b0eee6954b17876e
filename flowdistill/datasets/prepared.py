"""The folder of a prepared TFDS data set, and the command that prepares one.

It is read as array_record, by index, without TensorFlow and without the code
that prepared it, and is never downloaded.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from flowdistill.files.paths import expand

FORMAT = 'array_record'
VERSION = re.compile(r'\d+\.\d+\.\d+')


def open_prepared(builder: str, data_dir: str | None) -> Any:
  """The read-only TFDS builder of a prepared data set.

  Raises:
    ValueError: if it is not prepared, or in a format without an index.
  """
  import tensorflow_datasets

  if not builder:
    raise ValueError("builder = '' must name a TFDS data set, such as 'mnist'")
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')
  chosen = data_dir or default
  root = expand(chosen, f'data_dir = {chosen!r}')
  path = version_folder(builder, root)
  try:
    return tensorflow_datasets.builder_from_directory(path, file_format=FORMAT)
  except ValueError as error:
    other = root / FORMAT
    raise ValueError(
      f'builder = {builder!r} in {path} has no index: {error} A folder holds '
      f'one format, so use data_dir = {str(other)!r}. '
      f'{how_to_prepare(builder, other, root / "downloads")}'
    ) from error


def version_folder(builder: str, root: pathlib.Path) -> pathlib.Path:
  """The folder of the named version, or of the newest.

  Raises:
    ValueError: if it is missing, or has several configs and none is named.
  """
  name, _, version = builder.partition(':')
  folders = versions(root / name)
  configs = [p for p in sorted((root / name).glob('*')) if versions(p)]
  if not folders and len(configs) == 1:
    folders = versions(configs[0])
  elif not folders and configs:
    choices = ', '.join(f'{name}/{config.name}' for config in configs)
    raise ValueError(f'builder = {builder!r} must be one of {choices}')
  folders = [p for p in folders if version in ('', p.name)]
  if not folders:
    raise ValueError(
      f'builder = {builder!r} is not prepared in {root}. '
      f'{how_to_prepare(builder, root)}'
    )
  return folders[-1]


def versions(path: pathlib.Path) -> list[pathlib.Path]:
  """The prepared versions in a folder, the newest last."""
  folders = [p.parent for p in path.glob('*/features.json')]
  numbered = [p for p in folders if VERSION.fullmatch(p.name)]
  return sorted(numbered, key=lambda p: [*map(int, p.name.split('.'))])


def how_to_prepare(
  builder: str, root: pathlib.Path, downloads: pathlib.Path | None = None
) -> str:
  """The command that prepares it in `root`, reusing the folder `downloads`."""
  options = f'{builder!r}, data_dir={str(root)!r}, file_format={FORMAT!r}'
  reused = f'download_dir={str(downloads)!r}' if downloads else ''
  return (
    'This prepares it, with the extra tfds, which has TensorFlow: python -c '
    f'"import tensorflow_datasets as t; t.builder({options})'
    f'.download_and_prepare({reused})"'
  )


def open_records(prepared: Any, examples: str) -> Sequence[bytes]:
  """The records of a TFDS split, by index.

  Raises:
    ValueError: if there is no such split, or it is empty.
  """
  from tensorflow_datasets import decode

  try:
    raw = decode.DeserializeMethod.RAW_BYTES
    return prepared.as_data_source(examples, deserialize_method=raw)
  except ValueError as error:
    splits = ', '.join(prepared.info.splits)
    raise ValueError(
      f'examples = {examples!r} must be made of the splits {splits}: {error}'
    ) from error
