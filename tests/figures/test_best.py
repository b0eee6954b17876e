import math
import types
from typing import Any

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.config.sampling import Sampling
from flowdistill.figures import best
from flowdistill.workdir.presets import read_presets

WAYS = [
  Sampling('gamma', nfe, {'gamma': g}) for g in (0.1, 0.9) for nfe in (2, 4)
]
OPTIONS = types.SimpleNamespace(model=('student', 'teacher'), tune=('gamma',))


def figures(network, value):
  if value is None:
    return {'diverged': 5}
  return {f'frechet_{network}': value if network == 'digits' else -value}


@pytest.fixture
def write(tmp_path, monkeypatch):
  monkeypatch.setattr(best, 'tried', lambda *_: WAYS)

  def call(values):
    """Of two networks each; the grid of the stage stands in every row."""
    common = {'samples': 5, 'sets': 3, 'seed': 7, 'step': 9}
    rows = [
      {
        'model': role,
        'sampler': way.sampler,
        'nfe': way.nfe,
        'options': f'grid=shifted, gamma={way.options["gamma"]}',
        **figures(network, value),
        **common,
      }
      for (role, way), value in zip(
        [(r, w) for r in OPTIONS.model for w in WAYS], values, strict=True
      )
      for network in ('digits', 'emoji')
    ]
    blueprint: Any = types.SimpleNamespace(folder=tmp_path)
    best.write_best(blueprint, OPTIONS, rows)
    return read_presets(tmp_path)

  return call


def test_the_least_of_the_first_distance_is_the_best(write):
  found = write([1.0, 4.0, 2.0, 3.0, 8.0, 5.0, 7.0, math.nan])
  ways = [(p.model, p.nfe, p.options['gamma'], p.value) for p in found]
  assert ways == [
    ('student', 2, 0.1, 1.0),
    ('student', 4, 0.9, 3.0),
    ('teacher', 2, 0.9, 7.0),
    ('teacher', 4, 0.1, 5.0),
  ]
  assert {(p.figure, p.samples, p.seed, p.step) for p in found} == {
    ('frechet_digits', 15, 7, 9)
  }


def test_without_a_finite_figure_there_is_no_preset(write):
  with pytest.raises(ConfigError, match='frechet_digits is finite for none'):
    write([math.nan] * 8)


@pytest.mark.parametrize('values', [[None] * 8, [math.nan] * 7 + [None]])
def test_if_all_diverge_there_is_no_preset(write, values):
  with pytest.raises(ConfigError):
    write(values)


def test_what_diverges_leaves_the_others_to_be_compared(write):
  """Wherever it is: rows are not taken for those of another way."""
  found = write([None, 4.0, 2.0, 3.0, 8.0, None, None, None])
  ways = [(p.model, p.nfe, p.options['gamma'], p.value) for p in found]
  assert ways == [
    ('student', 2, 0.9, 2.0),
    ('student', 4, 0.9, 3.0),
    ('teacher', 2, 0.1, 8.0),
  ]
