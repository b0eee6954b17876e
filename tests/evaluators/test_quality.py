"""quality: figures of models that are known, over sets, in blocks."""

import functools
import sys

import numpy as np
import pytest
from evaluators.fakes import Pixels, Replay, digits

from flowdistill.build.tables import ROOMS
from flowdistill.evaluators.quality import quality
from flowdistill.evaluators.reference import blocks
from flowdistill.metrics import METRICS
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import moments
from flowdistill.metrics.precision_recall import precision_recall
from flowdistill.metrics.summary import MetricLaw

SOURCE = digits()
FEATURES = Pixels(SOURCE)
X0 = SOURCE.arrays['x0']
MODULE = sys.modules[blocks.__module__]
SWEEP = {'student': [['flow_map', 1]]}


def law(name, **options):
  return functools.partial(ROOMS[MetricLaw][name], **options)


def measure(model, tmp_path, metrics=('frechet',), **options):
  """The rows of a student."""
  laws = metrics
  if isinstance(metrics, tuple):
    laws = {name: law(name) for name in metrics}
  options = {'metrics': laws, 'sweep': SWEEP, 'samples': 500} | options
  models = {'student': model}
  return list(quality(models, SOURCE, FEATURES, tmp_path, **options))


def test_figures_are_those_of_the_whole_sets(tmp_path, monkeypatch):
  """In blocks of 128 as at once; a set begins where the last one ended."""
  monkeypatch.setattr(MODULE, 'BLOCK', 128)
  model = Replay(X0, 1.0)
  names = 'frechet', 'precision_recall'
  (row,) = measure(model, tmp_path, names, sets=2, real=1000)
  drawn = Replay(X0, 1.0)(1000, sampler='', nfe=1, cond={}, seed=0).x
  parts = [FEATURES(x)['features'] for x in (drawn[:500], drawn[500:])]
  real = FEATURES(X0[np.arange(1000) * len(X0) // 1000])['features']
  distances = [frechet_distance(moments(x), moments(real)) for x in parts]
  near = functools.partial(pytest.approx, rel=1e-5)
  assert row['frechet_pixels'] == near(np.mean(distances))
  assert row['frechet_pixels_spread'] == near(np.std(distances, ddof=1))
  whole = [precision_recall(x, real)['recall'] for x in parts]
  assert row['recall_pixels'] == near(np.mean(whole))
  assert (row['samples'], row['sets'], row['seed']) == (500, 2, 0)
  monkeypatch.setattr(MODULE, 'BLOCK', 4096)
  (again,) = measure(model, tmp_path, names, sets=2, real=1000)
  assert figures(again) == pytest.approx(figures(row), rel=1e-6)


def figures(row):
  return {k: v for k, v in row.items() if '_pixels' in k}


def test_labels_go_on_with_the_samples(tmp_path):
  model = Replay(X0)
  measure(model, tmp_path, sets=3, samples=600)
  labels = np.concatenate([call['cond']['label'] for call in model.calls])
  expected = SOURCE.arrays['label'][np.arange(1800) % len(X0)]
  np.testing.assert_array_equal(labels, expected)


def test_the_data_itself_is_precise_and_complete(tmp_path):
  names = 'frechet', 'kernel', 'precision_recall', 'density_coverage'
  laws = {name: law(name) for name in names}
  laws['kernel'] = law('kernel', size=200)
  n = len(X0)
  (row,) = measure(Replay(X0), tmp_path, metrics=laws, sets=1, samples=n)
  assert row['precision_pixels'] == row['recall_pixels'] == 1
  assert row['coverage_pixels'] == 1
  assert row['frechet_pixels'] < 1e-3
  assert not any(key.endswith('_spread') for key in row)


def test_every_metric_of_features_can_be_asked_for():
  rooms = ROOMS[MetricLaw]
  assert list(rooms) == list(METRICS)
  bound = rooms['kernel'](size=7)
  assert bound.function.keywords == {'size': 7}


BAD = {
  'metrics = {} must have one': {'metrics': {}},
  'sets = 0 must be at least 1': {'sets': 0},
  'real = 1 must be at least 2': {'real': 1},
  'samples = 1 must be at least 2': {'samples': 1},
  'samples = 500 must be at least 501 for metrics.k': {
    'metrics': {'k': law('kernel', size=501)}
  },
  'metrics.c needs pairs, which pixels of evaluation.features does not have': {
    'metrics': {'c': law('clip_score')}
  },
}


@pytest.mark.parametrize('message', BAD)
def test_bad_options_are_refused_before_anything_is_drawn(message, tmp_path):
  model = Replay(X0)
  with pytest.raises(ValueError, match=message):
    measure(model, tmp_path, **BAD[message])
  assert not model.calls


def test_a_network_without_classes_is_named_before_anything_is_drawn(tmp_path):
  class Unclassified(Pixels):
    kinds = ('features',)

  model = Replay(X0)
  with pytest.raises(ValueError, match=r'metrics\.score needs logits, which'):
    quality(
      {'student': model},
      SOURCE,
      Unclassified(SOURCE),
      tmp_path,
      metrics={'score': law('inception_score')},
      sweep=SWEEP,
    )
  assert not model.calls


def test_it_needs_features(tmp_path):
  with pytest.raises(ValueError, match='quality needs a feature network'):
    quality(
      {'student': Replay(X0)},
      SOURCE,
      None,
      tmp_path,
      metrics={'frechet': law('frechet')},
      sweep=SWEEP,
    )


def test_samples_that_are_not_finite_are_refused(tmp_path):
  x0 = X0.copy()
  x0[7] = np.nan
  message = 'the samples of student are not finite, in whichever way'
  with pytest.raises(ValueError, match=message):
    measure(Replay(x0), tmp_path)


class Exploding(Replay):
  """More than one network call is too much for it."""

  def __call__(self, n, *, nfe, first=0, **how):
    drawn = super().__call__(n, nfe=nfe, first=first, **how)
    if nfe > 1 and first:  # after the first block
      drawn.x[:3] = np.inf
    return drawn


def test_one_entry_that_diverges_does_not_take_the_others_along(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(MODULE, 'BLOCK', 128)
  sweep = {'student': [['flow_map', n] for n in (1, 2, 1)]}
  rows = measure(Exploding(X0), tmp_path, sweep=sweep, sets=1)
  assert [row.get('diverged') for row in rows] == [None, 3, None]
  assert ['frechet_pixels' in row for row in rows] == [True, False, True]
  lost, kept = rows[1], rows[0]
  assert lost.keys() - {'diverged'} == kept.keys() - figures(kept).keys()
  assert (lost['nfe'], kept['nfe']) == (2, 1)


def test_a_role_that_always_diverges_is_an_error(tmp_path):
  sweep = {'teacher': [['flow_map', 1]], 'student': [['flow_map', 2]]}
  models = {'student': Exploding(X0), 'teacher': Replay(X0)}
  rows = quality(
    models,
    SOURCE,
    FEATURES,
    tmp_path,
    metrics={'frechet': law('frechet')},
    sweep=sweep,
    samples=500,
    sets=2,
  )
  assert 'frechet_pixels' in next(rows)
  assert next(rows)['diverged'] == 3
  with pytest.raises(ValueError, match='the samples of student are not finite'):
    next(rows)


def test_the_clip_score_is_of_samples_and_their_captions(tmp_path):
  """Features that point as those of the caption score 100, opposite ones 0."""
  source = digits()
  source.words = [f'{label}' for label in source.arrays['label']]

  class Captioned(Pixels):
    kinds = 'features', 'pairs'

    def text(self, captions):
      return np.asarray([ANGLES[int(c)] for c in captions])

    def __call__(self, x):
      near = super().__call__(x)['logits'].argmax(axis=1)
      return {'features': ANGLES[near]}

  ANGLES = np.stack([[np.cos(a), np.sin(a)] for a in np.arange(10)])
  options = {'metrics': {'c': law('clip_score')}, 'samples': 300, 'sets': 1}
  (row,) = quality(
    {'student': Replay(X0)},
    source,
    Captioned(source),
    tmp_path,
    sweep=SWEEP,
    **options,
  )
  near = FEATURES(X0[:300])['logits'].argmax(axis=1)
  apart = near - source.arrays['label'][:300]
  expected = 100 * np.maximum(np.cos(apart.astype(float)), 0).mean()
  assert row['clip_score_pixels'] == pytest.approx(expected, rel=1e-6)
  assert row['clip_score_error_pixels'] > 0
