"""Gauge: what is kept of a table that is killed half way."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from evaluators.fakes import Pixels, Replay, digits
from evaluators.test_quality import law

from flowdistill.evaluators import reference
from flowdistill.evaluators.quality import quality
from flowdistill.stages.gauge import Gauge
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import Layout
from flowdistill.workdir.results import NAMED
from flowdistill.workdir.shelf import Shelf

SOURCE = digits()
SOURCE.identity = {'config': 'digits'}
X0 = SOURCE.arrays['x0']
REAL = 200
SWEEP = {'student': [['flow_map', 1], ['flow_map', 2], ['gamma', None]]}


class Killed(Exception):
  pass


class Mortal(Replay):
  """Dies at its last call."""

  left = 10**6

  def __call__(self, *args, **kwargs):
    if not self.left:
      raise Killed
    self.left -= 1
    return super().__call__(*args, **kwargs)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
  monkeypatch.setattr(reference, 'BLOCK', 64)


def make_gauge(folder, **of):
  return Gauge(
    networks=(Pixels(SOURCE),),
    layout=Layout(make_mesh()),
    blocks=Shelf(folder / 'blocks'),
    statistics=Shelf(folder / 'references'),
    of={'code': '1.0', **of},
  )


def measure(gauge, model, **options):
  metrics = {'fd': law('frechet'), 'pr': law('precision_recall')}
  options = {'samples': 100, 'sets': 2, 'real': REAL} | options
  options = {'metrics': metrics} | options
  rows = quality(
    {'student': model}, SOURCE, gauge, Path(), sweep=SWEEP, **options
  )
  return [*rows]


@pytest.mark.parametrize('calls', [1, 5, 8, 9])
def test_killed_and_made_again_is_equal_to_the_byte(tmp_path, calls):
  whole = measure(make_gauge(tmp_path / 'whole'), Replay(X0, 1.0))
  model = Mortal(X0, 1.0)
  model.left = calls
  with pytest.raises(Killed):
    measure(make_gauge(tmp_path / 'b'), model)
  again = Replay(X0, 1.0)
  gauge = make_gauge(tmp_path / 'b')
  rows = measure(gauge, again)
  assert json.dumps(rows) == json.dumps(whole)
  assert len(again.calls) == 12 - calls  # two blocks of two sets, three times
  gauge.blocks.clear()
  assert not (tmp_path / 'b' / 'blocks').exists()


def test_blocks_go_when_their_row_is_there(tmp_path):
  gauge = make_gauge(tmp_path)
  measure(gauge, Replay(X0, 1.0))
  names = {
    path.name.partition('-')[0] for path in gauge.blocks.folder.iterdir()
  }
  assert len(names) == 1  # rows and real examples are parts of nothing


def test_other_weights_have_other_blocks(tmp_path):
  measure(make_gauge(tmp_path, step=1), Replay(X0, 1.0))
  model = Replay(X0, 1.0)
  measure(make_gauge(tmp_path, step=2), model)
  assert len(model.calls) == 12


def test_the_mean_of_adaptive_calls_is_over_all_samples(tmp_path):
  *_, row = measure(make_gauge(tmp_path), Replay(X0, 1.0))
  assert row['nfe'] == 2.5
  assert row['adaptive'] is True


def test_progress_is_shown_with_the_time_that_is_left(tmp_path, capsys):
  gauge = make_gauge(tmp_path)
  with gauge.watched(200, 50, 'student 1 NFE, 2 of 4') as advance:
    advance(50)
    advance(50)
  out = capsys.readouterr().out
  assert out.startswith('student 1 NFE, 2 of 4 150/200')
  assert 'samples/s' in out
  assert 'left' in out
  assert 'images/s' not in out


def test_real_examples_are_read_again_but_their_features_are_not(tmp_path):
  seen = []

  class Seeing(Pixels):
    def __call__(self, x):
      seen.append(len(x))
      return super().__call__(x)

  def gauge():
    made = make_gauge(tmp_path)
    return Gauge(**{**vars(made), 'networks': (Seeing(SOURCE),)})

  measure(gauge(), Replay(X0, 1.0))
  first = sum(seen)
  seen.clear()
  measure(gauge(), Replay(X0, 1.0), seed=1)
  assert (first, sum(seen)) == (REAL + 600, 600)


def test_the_unit_of_the_ratio(tmp_path):
  """The validation examples themselves are at a ratio of 1."""
  held_out = np.arange(len(X0)) % 3 == 0
  gauge = Gauge(
    **{
      **vars(make_gauge(tmp_path)),
      'validation': type(SOURCE)(SOURCE.spec, {'x0': X0[held_out]}),
    }
  )
  n = int(held_out.sum())
  metrics = {'fd': law('frechet')}
  rows = measure(
    gauge,
    Replay(X0[held_out]),
    metrics=metrics,
    samples=n,
    sets=1,
    real=10**6,
  )
  ratios = [row for row in rows if 'frechet_ratio' in row]
  assert len(ratios) == 3
  assert ratios[0]['features'] == 'pixels'
  assert ratios[0]['frechet_ratio'] == pytest.approx(1, abs=1e-6)


def test_a_ratio_says_what_it_is_of(tmp_path):
  held_out = type(SOURCE)(SOURCE.spec, {'x0': X0[::3]})

  class Named(Pixels):
    about: ClassVar = {'features': 'pixels', 'weights_sha256': 'abc'}

  made = vars(make_gauge(tmp_path))
  gauge = Gauge(
    **{**made, 'validation': held_out, 'networks': (Named(SOURCE),)}
  )
  metrics = {'fd': law('frechet')}
  *_, row = measure(gauge, Replay(X0, 1.0), metrics=metrics)
  assert row['features'] == 'pixels'
  assert row['weights_sha256'] == 'abc'
  assert row['reference'] == f'known, {REAL}'
  assert row['validation'] == f'known, {REAL}'
  assert len(row['validation_sha256']) == 64
  assert row['validation_sha256'] != row['reference_sha256']
  assert {*row} <= {*NAMED, 'frechet_ratio'}


@pytest.mark.parametrize(
  ('codes', 'times'), [('aa', 1), ('ab', 2), (('a+', 'a+'), 2)]
)
def test_moments_of_other_code_are_computed_again(tmp_path, codes, times):
  made = []

  def make():
    made.append(1)
    return {'x': np.zeros(1)}

  for i, code in enumerate(codes):
    gauge = make_gauge(tmp_path, code=code)
    gauge.blocks.folder = tmp_path / f'{i}'
    gauge.lasting({'data': 'digits'}, make)
  assert len(made) == times
