"""The local folder of a model or of a tokenizer, and what its files are."""

import contextlib
import importlib.util
import pathlib
from collections.abc import Generator, Mapping
from pickle import UnpicklingError

from safetensors import SafetensorError

from flowdistill.files.checksums import digests
from flowdistill.files.paths import expand

WEIGHTS = '.safetensors'
READ = (WEIGHTS, '.json', '.txt', '.model', '.jinja')  # no code, no pickles
HOW = "pip install 'flowdistill[torch]'"
UNREADABLE = (
  ArithmeticError,
  AttributeError,
  EOFError,
  ImportError,
  LookupError,
  OSError,
  RuntimeError,
  TypeError,
  ValueError,
  UnpicklingError,
  SafetensorError,
)
"""What PyTorch and transformers raise for files that are damaged or others."""


def check_installed() -> None:
  """Raises ValueError unless what runs the models can be imported."""
  for package in ('torch', 'transformers'):
    if importlib.util.find_spec(package) is None:
      raise ValueError(f'{package} is not installed: {HOW}')


def folder_of(name: str, path: str) -> pathlib.Path:
  """An existing folder; raises ValueError naming the option otherwise."""
  if not path:
    raise ValueError(f"{name} = '' must be a folder with its files")
  folder = expand(path, f'{name} = {path!r}')
  if not folder.is_dir():
    raise ValueError(f'{name} = {path!r} must be a folder, and is none')
  return folder


def check_model(name: str, path: str) -> None:
  """Raises ValueError unless it is a folder with weights and their config."""
  folder = folder_of(name, path)
  if not (folder / 'config.json').is_file():
    raise ValueError(f'{name} = {path!r} must have a config.json')
  if not any(each.suffix == WEIGHTS for each in folder.iterdir()):
    raise ValueError(
      f'{name} = {path!r} must have weights as {WEIGHTS}; others, such as '
      'pytorch_model.bin, are never read'
    )


def check_tokenizer(name: str, path: str) -> None:
  """Raises ValueError unless it is a folder with a tokenizer."""
  folder = folder_of(name, path)
  if not (folder / 'tokenizer_config.json').is_file():
    raise ValueError(f'{name} = {path!r} must have a tokenizer_config.json')


@contextlib.contextmanager
def loading(name: str, path: str, what: str = '') -> Generator[None]:
  """Errors of libraries that read a file or a folder, as a ValueError.

  Args:
    name: of the option.
    path: its value.
    what: it is read as, such as ' as a Gemma2Model'.
  """
  try:
    yield
  except UNREADABLE as error:
    raise ValueError(
      f'{name} = {path!r} cannot be read{what}: {error}'
    ) from error


def hashes_of(name: str, path: str) -> Mapping[str, str]:
  """File of a folder -> its SHA-256, of all files that may be read."""
  folder = folder_of(name, path)
  files = sorted(
    each for each in folder.iterdir() if each.suffix in READ and each.is_file()
  )
  sums = zip(files, digests(files), strict=True)
  return {file.name: digest for file, digest in sums}
