"""Whether weights, examples and captions fit what a stage needs."""

from typing import Any

from flowdistill.config.bind import ConfigError
from flowdistill.flow.spec import LABEL, DataSpec
from flowdistill.training.named_arrays import by_name


def check_same_shapes(wanted: Any, loaded: Any, where: str) -> None:
  """Raises ConfigError naming the first array that differs."""
  ours, theirs = _shapes(wanted), _shapes(loaded)
  for name in dict.fromkeys([*ours, *theirs]):
    if ours.get(name) != theirs.get(name):
      raise ConfigError(
        f'config.{where}: these weights do not fit. The first array that '
        f'differs is {name}: {theirs.get(name, "missing")} there, and '
        f'{ours.get(name, "missing")} in this stage'
      )


def _shapes(tree: Any) -> dict[str, list[int]]:
  return {name: list(array.shape) for name, array in by_name(tree).items()}


def check_knows(known: DataSpec, wanted: DataSpec, where: str) -> None:
  """Refuses weights or pairs of other examples, or of more classes."""
  more_classes = known.num_classes > wanted.num_classes
  others = known.cond.keys() - wanted.cond.keys() - {LABEL}
  if known.shape != wanted.shape or more_classes or others:
    raise ConfigError(
      f'config.{where} knows examples {known}, and this data set has examples '
      f'{wanted}'
    )
  check_same_text(known, wanted, where)


def check_same_text(known: DataSpec, wanted: DataSpec, where: str) -> None:
  """Refuses weights or pairs that know other tokens."""
  if None not in (known.text, wanted.text) and known.text != wanted.text:
    raise ConfigError(
      f'config.{where} knows captions that were encoded by another '
      f'dataset.text, or with the vocabulary of other captions: the texts are '
      f'{about_text(known)}, and here {about_text(wanted)}'
    )


def about_text(spec: DataSpec) -> str:
  """'words, length = 24, vocabulary of 91', of a spec with text."""
  options = {
    name: f'of {len(value)}' if isinstance(value, list) else value
    for name, value in (spec.text or {}).items()
  }
  return str(options)
