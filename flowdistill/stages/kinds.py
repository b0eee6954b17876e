"""The table of the kinds of stages, and what applies it."""

from collections.abc import Iterable

from flowdistill.build.tables import ROOMS, SECTIONS
from flowdistill.config import files
from flowdistill.config.bind import Spec
from flowdistill.config.kinds import ENCODE, PAIRS, TRAIN, Kind
from flowdistill.config.overrides import Override
from flowdistill.config.tiny import tiny_encode, tiny_pairs, tiny_train
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check import check_train
from flowdistill.stages.check_pairs import check_pairs
from flowdistill.stages.encoding import check_encode, encode_stage
from flowdistill.stages.pairing import make_stage_pairs
from flowdistill.stages.train import train

KINDS = {
  TRAIN: Kind(SECTIONS[TRAIN], check_train, train, tiny_train),
  PAIRS: Kind(SECTIONS[PAIRS], check_pairs, make_stage_pairs, tiny_pairs),
  ENCODE: Kind(SECTIONS[ENCODE], check_encode, encode_stage, tiny_encode),
}


def load_stages(
  source: str, overrides: Iterable[Override] = ()
) -> dict[str, Spec]:
  """Reads 'FILE.py[:args]' with overrides: stage name -> resolved dict.

  Raises:
    ConfigError: naming the key, the value and what is allowed.
  """
  return files.load_stages(source, overrides, KINDS, ROOMS)


def check_stages(blueprints: Blueprints) -> None:
  """Checks every stage by its kind, before any device is used."""
  for name, spec in blueprints.specs.items():
    KINDS[spec['job']].check(blueprints, name)
