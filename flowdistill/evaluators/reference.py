"""The real examples that samples are compared with, as features.

What does not change between evaluations, the moments, is kept in the run.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from flowdistill.evaluators.signature import (
  Arrays,
  Data,
  Features,
  Gauge,
  Reference,
  Row,
  real_examples,
)
from flowdistill.flow.pixels import Digest
from flowdistill.metrics.metric import Needs
from flowdistill.metrics.moments import Moments, checked_moments
from flowdistill.metrics.summary import MOMENTS, Summary, kinds_of

OF_SAMPLES = ('logits', 'pairs')  # needs of metrics that know no reference
BLOCK = 1024  # examples whose features are taken at once
Needed = Mapping[str, Collection[Needs]]
"""Name of a network -> what the metrics that it is for need."""


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
  """The reference.

  Attributes:
    summaries: name of a network -> what is known of the examples.
    about: columns of a row: which examples they are.
  """

  summaries: Mapping[str, Summary]
  about: Row


class DivergedError(ValueError):
  """Examples are not finite.

  Attributes:
    bad: how many of a block.
  """

  def __init__(self, bad: int, count: int):
    super().__init__(f'{bad} of {count} examples are not finite')
    self.bad = bad


def blocks(first: int, n: int) -> Iterator[np.ndarray]:
  """The numbers first to first + n − 1, a block at a time."""
  for start in range(0, n, BLOCK):
    yield first + np.arange(start, min(start + BLOCK, n))


def features_of(
  networks: Sequence[Features], x: np.ndarray, needed: Needed
) -> Arrays:
  """'NETWORK/kind' -> the features of examples that are needed.

  Raises:
    DivergedError: if one is not finite: as uint8 it would be a number.
  """
  if bad := int(np.sum(~np.isfinite(x).reshape(len(x), -1).all(axis=1))):
    raise DivergedError(bad, len(x))
  found: Arrays = {}
  for network in networks:
    wanted = kinds_of(needed[network.name])
    outputs = network(x)
    found |= {f'{network.name}/{k}': outputs[k] for k in outputs if k in wanted}
  return found


def of_network(found: Arrays, name: str) -> Arrays:
  """kind -> array, of one network."""
  parts = ((key.partition('/'), array) for key, array in found.items())
  return {kind: array for (owner, _, kind), array in parts if owner == name}


def reference(gauge: Gauge, source: Data, most: int, needed: Needed) -> Real:
  """Of at most so many examples, evenly spread over all; or of a file.

  Raises:
    ValueError: if a file has moments of another network, or the features of the
      examples themselves are needed.
  """
  if gauge.reference is not None:
    return _of_file(gauge, gauge.reference, needed)
  source = source if gauge.examples is None else gauge.examples
  wanted: dict[str, list[Needs]] = {
    name: [need for need in needs if need not in OF_SAMPLES]
    for name, needs in needed.items()
  }
  every = {need for needs in wanted.values() for need in needs}
  if not every:
    return Real({name: Summary(()) for name in wanted}, {})
  whole = not every <= {*MOMENTS}
  return (_of_examples if whole else moments_of)(gauge, source, most, wanted)


def check_file(gauge: Gauge, file: Reference, needed: Needed) -> None:
  """Raises ValueError if a file does not have what metrics need."""
  for network in gauge.networks:
    for kind in moment_kinds(needed[network.name]):
      file.moments(network, kind)
  if any('features' in needs for needs in needed.values()):
    raise ValueError(
      'metrics that compare features, such as kernel and precision_recall, '
      'need the real examples, and evaluation.reference has moments only'
    )


def _of_file(gauge: Gauge, file: Reference, needed: Needed) -> Real:
  summaries = {
    network.name: Summary(
      (), {kind: file.moments(network, kind) for kind in kinds}
    )
    for network in gauge.networks
    for kinds in [moment_kinds(needed[network.name])]
  }
  return Real(summaries, dict(file.about))


def moment_kinds(needs: Collection[Needs]) -> list[str]:
  """The kinds of features whose moments metrics need."""
  return sorted({MOMENTS[need] for need in needs if need in MOMENTS})


def moments_of(gauge: Gauge, source: Data, most: int, needed: Needed) -> Real:
  """Moments alone, which are kept if it can be said what they are of."""
  kinds = [(n, k) for n, needs in needed.items() for k in moment_kinds(needs)]
  count = min(most, len(source))

  def make() -> Arrays:
    real = _of_examples(gauge, source, most, needed)
    arrays = {'digest': _bytes(real.about['reference_sha256'])}
    for name, kind in kinds:
      found = real.summaries[name].moments(kind)
      arrays[f'{name}/{kind}/mean'] = found.mean
      arrays[f'{name}/{kind}/covariance'] = found.covariance
    return arrays

  known_by = _about(gauge, source, most, needed)
  found = make() if known_by is None else gauge.lasting(known_by, make)
  known: dict[str, dict[str, Moments]] = {name: {} for name in needed}
  for name, kind in kinds:
    mean, covariance = (
      found[f'{name}/{kind}/{part}'] for part in ('mean', 'covariance')
    )
    known[name][kind] = checked_moments(mean, covariance, count)
  digest = found['digest'].tobytes().decode()
  summaries = {name: Summary((), each) for name, each in known.items()}
  return Real(summaries, _columns(source, count, digest))


def _of_examples(gauge: Gauge, source: Data, most: int, needed: Needed) -> Real:
  count = min(most, len(source))
  about = _about(gauge, source, most, needed)
  digest = Digest(count, source.spec.shape)
  summaries = {name: Summary(needs) for name, needs in needed.items()}
  with gauge.watched(count, 0, f'features of {source.title}') as advance:
    for block in blocks(0, count):
      x = real_examples(source, most, block)
      digest.update(x)

      def make(x: np.ndarray = x) -> Arrays:
        return features_of(gauge.networks, x, needed)

      kept = about and gauge.kept({**about, 'first': block[0]}, make)
      found = kept or make()
      for name, summary in summaries.items():
        summary.add(of_network(found, name))
      advance(len(block))
  return Real(summaries, _columns(source, count, f'{digest}'))


def _about(gauge: Gauge, source: Data, most: int, needed: Needed) -> Row | None:
  """What the features depend on; None if it is not known of the data."""
  if source.identity is None:
    return None
  return {
    'real': source.identity,
    'most': most,
    'networks': [dict(n.about) for n in gauge.networks],
    'kinds': {name: sorted(kinds_of(n)) for name, n in needed.items()},
  }


def _columns(source: Data, count: int, digest: str) -> Row:
  return {
    'reference': f'{source.title}, {count}',
    'reference_sha256': digest,
  }


def _bytes(text: str) -> np.ndarray:
  return np.frombuffer(text.encode(), np.uint8)
