"""geneval: what it says of drawings that are right and wrong."""

import json

import numpy as np
import pytest
from evaluators.fakes import Replay, digits

from flowdistill.build.data import Data
from flowdistill.datasets.shapes import shapes
from flowdistill.evaluators.geneval import geneval
from flowdistill.metrics.geneval import TAGS

N = 60
SHAPES = shapes(examples=N, split='validation')
SOURCE = Data(lambda: SHAPES, config={'name': 'shapes', 'split': 'validation'})
X0 = SHAPES[np.arange(N)]['x0']
SWEEP = {'student': [['flow_map', 1]]}


def measure(x0, tmp_path, **options):
  options = {'sweep': SWEEP, 'samples': N, **options}
  models = {'student': Replay(x0)}
  rows = list(geneval(models, SOURCE, None, tmp_path, **options))
  assert json.loads(json.dumps(rows)) == rows
  return rows


def test_right_drawings_have_the_score_one(tmp_path):
  (row,) = measure(X0, tmp_path, seed=3)
  shares = {f'geneval_{tag}': 1.0 for tag in TAGS}
  assert {k: v for k, v in row.items() if k != 'ms_per_image'} == {
    'model': 'student',
    'sampler': 'flow_map',
    'nfe': 1,
    'samples': N,
    'prompts': len({*SHAPES.captions}),
    'seed': 3,
    'reference': 'shapes validation',
    'geneval': 1.0,
    **shares,
  }


def test_a_category_counts_a_sixth(tmp_path):
  """Empty pictures in place of those of counting, and half of the colours."""
  x0 = X0.copy()
  x0[2::6] = -1
  x0[3::12] = -1
  (row,) = measure(x0, tmp_path)
  assert row['geneval_counting'] == 0
  assert row['geneval_colors'] == 0.5
  assert row['geneval'] == pytest.approx(4.5 / 6)


def test_drawings_of_other_prompts_are_wrong(tmp_path):
  (row,) = measure(np.roll(X0, 6, axis=0), tmp_path)
  assert row['geneval'] < 0.35


def test_what_is_not_finite_is_wrong(tmp_path):
  (row,) = measure(np.full_like(X0, np.nan), tmp_path)
  assert row['geneval'] == 0


def test_more_samples_than_examples_repeat_them(tmp_path):
  sweep = {'student': [['flow_map', 1], ['flow_map', 4]]}
  first, second = measure(X0, tmp_path, samples=N + 18, sweep=sweep)
  assert (first['nfe'], second['nfe']) == (1, 4)
  assert first['geneval'] == second['geneval'] == 1
  assert first['samples'] == N + 18
  assert first['prompts'] <= N


@pytest.mark.parametrize(
  ('source', 'options', 'message'),
  [
    (digits(), {}, 'geneval needs data with prompts and a detector'),
    (SOURCE, {'samples': 0}, 'samples = 0 must be at least 6'),
    (SOURCE, {'samples': 5}, "samples = 5 must be larger.*'color_attr'"),
    (SOURCE, {'sweep': {'weak': [['euler', 1]]}}, "the role 'weak'"),
  ],
)
def test_bad_values_are_refused_before_anything_is_drawn(
  source, options, message, tmp_path
):
  options = {'sweep': SWEEP, **options}
  with pytest.raises(ValueError, match=message):
    geneval({'student': Replay(X0)}, source, None, tmp_path, **options)
