"""The pairs that a stage trains on: their folder and their origin."""

import pathlib

from flowdistill.build.foreign import digest_of
from flowdistill.build.pairs import open_pairs
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.pairs import MANIFEST, Pairs
from flowdistill.workdir.folders import PAIRS, STAGE, source_folder


def pairs_folder(source: str, workdir: pathlib.Path) -> pathlib.Path:
  """The folder of the pairs of 'stage:NAME', or a folder itself."""
  folder = source_folder(source, workdir)
  return folder / PAIRS if source.startswith(STAGE) else folder


def load_pairs(source: str, workdir: pathlib.Path) -> Pairs:
  """The pairs of an earlier stage, or of a folder of ours or of SlimFlow."""
  try:
    return open_pairs(pairs_folder(source, workdir))
  except ValueError as error:
    raise ConfigError(f'config.pairs = {source!r}: {error}') from error


def pairs_origin(source: str, workdir: pathlib.Path) -> str:
  """The source of pairs with its digest, to distinguish it from others."""
  manifest = pairs_folder(source, workdir) / MANIFEST
  if not manifest.is_file():
    return source
  return f'{source} of sha256 {digest_of(manifest)}'
