"""Folders and files of the Hugging Face hub, by name and commit.

  hub:owner/name@0123456789abcdef0123456789abcdef01234567/transformer
  hub:owner/name@0123456789abcdef0123456789abcdef01234567/flux1-dev.safetensors

They are fetched when a config is checked, into the cache of `huggingface_hub`,
where they are found again without a network.
"""

import importlib
import pathlib
import re
import textwrap
from collections.abc import Sequence

from flowdistill.convert.single_files import SUFFIXES

HUB = 'hub:'
FORM = re.compile(r'hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40})((?:/[\w.-]+)*)')
FILES = (
  'config.json',
  'diffusion_pytorch_model*.safetensors',
  'diffusion_pytorch_model.safetensors.index.json',
)


def is_of_hub(source: str) -> bool:
  """Whether a reference names a folder or a file of the hub."""
  return source.startswith(HUB)


def fetched(source: str, files: Sequence[str] = FILES) -> pathlib.Path:
  """The folder or the file of the hub, on this machine.

  Args:
    source: hub:OWNER/NAME@COMMIT/FOLDER, or without the folder, or with a file
      of weights in its place.
    files: that are wanted of a folder, by patterns; those of a network by
      default.

  Raises:
    ValueError: if it is not named so, `huggingface_hub` is not installed, or it
      is neither in the cache nor can be fetched.
  """
  match = FORM.fullmatch(source)
  if not match or '..' in source.split('/'):
    raise ValueError(
      f'{source!r} must be hub:OWNER/NAME@COMMIT/FOLDER, with all 40 digits of '
      'a commit, as a branch may change'
    )
  name, commit, folder = match.groups()
  try:
    hub = importlib.import_module('huggingface_hub')
  except ImportError as error:
    raise ValueError(
      f'{source} needs huggingface_hub, which is not installed: '
      "pip install 'flowdistill[hub]'"
    ) from error
  inside = folder.removeprefix('/')
  wanted = [f'{inside}/{file}' if inside else file for file in files]
  wanted = [inside] if inside.lower().endswith(SUFFIXES) else wanted
  try:
    root = hub.snapshot_download(name, revision=commit, allow_patterns=wanted)
  except (OSError, ValueError) as error:
    why = textwrap.shorten(str(error), 300)
    raise ValueError(
      f'{source} is not in the cache, and cannot be fetched: {why}'
    ) from error
  return pathlib.Path(root) / inside
