"""few_step: what it measures of models that are known."""

import itertools
import json
from typing import ClassVar

import numpy as np
import pytest
from evaluators.fakes import Pixels, Replay, Samples, digits
from matplotlib.image import imread

from flowdistill.evaluators.few_step import few_step
from flowdistill.flow.spec import DataSpec
from flowdistill.metrics.moments import moments
from flowdistill.metrics.precision_recall import precision_recall

SOURCE = digits()
FEATURES = Pixels(SOURCE)
X0 = SOURCE.arrays['x0']
KEYS = [
  'model',
  'sampler',
  'nfe',
  'samples',
  'seed',
  'reference',
  'reference_sha256',
  'frechet_pixels',
  'accuracy',
  'memorised',
  'ms_per_image',
]


PAIR = 'precision_pixels', 'recall_pixels'


class FileOfMoments:
  """Has what it is asked for."""

  about: ClassVar = {}

  def moments(self, network, kind):
    return moments(network(X0)[kind])


def measure(draw, folder, nfes=(1,), **options):
  """Rows of a student with `draw`."""
  sweep = {'student': [['flow_map', nfe] for nfe in nfes]}
  return list(
    few_step(
      {'student': draw}, SOURCE, FEATURES, folder, sweep=sweep, **options
    )
  )


def test_the_data_itself_is_perfect_and_all_remembered(tmp_path):
  (row,) = measure(Replay(X0), tmp_path, samples=1790, seed=3)
  assert list(row) == KEYS
  assert 0 < row['frechet_pixels'] < 0.01
  assert row['accuracy'] > 0.9  # of the nearest class mean
  assert row['memorised'] == 1
  assert row['ms_per_image'] > 0
  assert (row['model'], row['sampler'], row['nfe']) == (
    'student',
    'flow_map',
    1,
  )
  assert (row['samples'], row['seed']) == (1790, 3)


def test_what_diverges_leaves_the_other_rows_and_is_named_at_the_end(tmp_path):
  x0 = X0.copy()
  x0[[3, 7]] = np.nan
  sweep = {
    'teacher': [['euler', 1]],
    'student': [['flow_map', 1], ['flow_map', 2]],
  }
  models = {'teacher': Replay(X0), 'student': Replay(x0)}
  rows = few_step(models, SOURCE, FEATURES, tmp_path, sweep=sweep, samples=500)
  kept, *lost = itertools.islice(rows, 3)
  figures = KEYS[KEYS.index('frechet_pixels') :]
  assert list(kept) == KEYS
  assert [list(row) for row in lost] == [
    [*(key for key in KEYS if key not in figures), 'diverged']
  ] * 2
  assert [(row['nfe'], row['diverged']) for row in lost] == [(1, 2), (2, 2)]
  with pytest.raises(ValueError, match='the samples of student are not finite'):
    next(rows)
  assert (tmp_path / 'samples' / 'frechet_over_nfe.png').is_file()


def test_without_a_finite_row_there_is_no_curve(tmp_path):
  with pytest.raises(ValueError, match='the samples of student are not finite'):
    measure(Replay(np.full_like(X0, np.nan)), tmp_path, samples=100)
  assert list(tmp_path.iterdir()) == []


def test_noise_is_far_wrong_and_new(tmp_path):
  def noise(n, **_):
    x = np.random.default_rng(0).standard_normal((n, 8, 8, 1))
    return Samples(x, np.ones(n))

  noise.defaults_of = lambda sampler: {}
  (row,) = measure(noise, tmp_path, samples=500)
  assert row['frechet_pixels'] > 30
  assert row['accuracy'] < 0.25
  assert row['memorised'] == 0


def test_a_model_that_ignores_the_label_has_the_accuracy_of_chance(tmp_path):
  wrong = Replay(np.random.default_rng(0).permutation(X0))
  (row,) = measure(wrong, tmp_path, samples=1790)
  assert 0 < row['frechet_pixels'] < 0.01
  assert row['accuracy'] == pytest.approx(0.1, abs=0.03)


def test_rows_follow_the_sweep_and_json_can_hold_them(tmp_path):
  sweep = {
    'teacher': [['euler', 2]],
    'student': [['flow_map', 4], ['gamma', 1]],
  }
  models = {'student': Replay(X0, 1.0), 'teacher': Replay(X0, 3.0)}
  rows = list(
    few_step(models, SOURCE, FEATURES, tmp_path, sweep=sweep, samples=300)
  )
  assert [(r['model'], r['sampler'], r['nfe']) for r in rows] == [
    ('teacher', 'euler', 2),
    ('student', 'flow_map', 4),
    ('student', 'gamma', 1),
  ]
  assert json.loads(json.dumps(rows)) == rows
  distances = [row['frechet_pixels'] for row in rows]
  assert distances[1] < distances[2] < distances[0]


def test_models_are_given_the_labels_of_the_data_and_the_seed(tmp_path):
  model = Replay(X0)
  measure(model, tmp_path, samples=2000, seed=11)
  call = model.calls[-1]
  assert (call['n'], call['seed']) == (2000, 11)
  np.testing.assert_array_equal(
    call['cond']['label'][:1797], SOURCE.arrays['label']
  )


def test_rows_come_one_by_one(tmp_path):
  """So that a job that is cut off has kept what it measured."""
  model = Replay(X0)
  sweep = {'student': [['flow_map', 1], ['flow_map', 2]]}
  rows = few_step(
    {'student': model}, SOURCE, FEATURES, tmp_path, sweep=sweep, samples=20
  )
  assert model.calls == []
  assert len(list(itertools.islice(rows, 1))) == 1
  assert {call['nfe'] for call in model.calls} == {1}


def test_the_curve_is_drawn_at_the_end(tmp_path):
  measure(Replay(X0, 2.0), tmp_path, nfes=(1, 2, 4), samples=200)
  (path,) = (tmp_path / 'samples').iterdir()
  assert path.name == 'frechet_over_nfe.png'
  assert imread(path).shape[:2] == (960, 1800)


def test_options_and_the_measured_nfe_are_in_the_rows(tmp_path):
  sweep = {'student': [['gamma', 1, {'gamma': 0.3}], ['rk45', None]]}
  gamma, rk45 = few_step(
    {'student': Replay(X0)},
    SOURCE,
    FEATURES,
    tmp_path,
    sweep=sweep,
    samples=20,
    picture='mine',
  )
  assert gamma['options'] == 'gamma=0.3'
  assert (rk45['nfe'], rk45['adaptive']) == (2.5, True)
  assert [path.name for path in (tmp_path / 'samples').iterdir()] == [
    'mine.png'
  ]


def test_without_labels_there_is_no_accuracy(tmp_path):
  source = digits()
  source.spec = DataSpec(source.spec.shape)
  rows = few_step(
    {'student': Replay(X0)},
    source,
    FEATURES,
    tmp_path,
    sweep={'student': [['flow_map', 1]]},
    samples=50,
  )
  assert list(next(rows)) == [key for key in KEYS if key != 'accuracy']


def test_a_network_of_other_classes_has_no_accuracy(tmp_path):
  source = digits()
  source.spec = DataSpec.labelled((8, 8, 1), 12)
  sweep = {'student': [['flow_map', 1]]}
  models = {'student': Replay(X0)}
  options = {'sweep': sweep, 'samples': 20}
  (row,) = few_step(models, source, FEATURES, tmp_path, **options)
  assert 'accuracy' not in row


def test_memorised_counts_mirrored_examples_and_figures(tmp_path):
  """Each digit stands there thrice, as skin tones of one emoji do."""
  source = digits()
  noise = 0.01 * np.random.default_rng(0).standard_normal((300, 8, 8, 1))
  x0 = (X0[:100].repeat(3, axis=0) + noise).astype(np.float32)
  label = source.arrays['label'][:100].repeat(3)
  source.arrays = {'x0': x0, 'label': label}
  source.figures = np.arange(100).repeat(3)
  near = Replay(X0[:100, :, ::-1], 0.1)
  sweep = {'student': [['flow_map', 1]]}
  shares = []
  for flips, by_figure in itertools.product((False, True), repeat=2):
    how = {'flips': flips, 'by_figure': by_figure, 'samples': 100}
    models = {'student': near}
    (row,) = few_step(models, source, FEATURES, tmp_path, sweep=sweep, **how)
    assert list(row) == KEYS
    shares.append(row['memorised'])
  assert shares[0] == shares[2] == 0  # as near as two of one figure
  assert shares[1] < 0.6 < shares[3] == 1


def test_precision_and_recall_stand_beside_the_others_if_asked_for(tmp_path):
  half = X0[:900]  # of 1 797 examples: all of it is real, and half is missing
  (row,) = measure(Replay(half), tmp_path, samples=900, precision_recall=True)
  assert list(row) == [*KEYS[:-2], *PAIR, *KEYS[-2:]]
  wanted = precision_recall(half.reshape(900, -1), X0.reshape(len(X0), -1))
  assert row['precision_pixels'] == wanted['precision'] == 1
  assert row['recall_pixels'] == pytest.approx(wanted['recall'])
  assert 0.5 < row['recall_pixels'] < 1


def test_precision_needs_the_real_examples_themselves(tmp_path):
  gauge = Pixels(SOURCE)
  gauge.reference = FileOfMoments()
  with pytest.raises(ValueError, match='precision_recall, need the real exam'):
    few_step(
      {'student': Replay(X0)},
      SOURCE,
      gauge,
      tmp_path,
      sweep={'student': [['flow_map', 1]]},
      precision_recall=True,
    )


@pytest.mark.parametrize(
  ('features', 'options', 'message'),
  [
    (None, {}, "set evaluation.features.*'energy'"),
    (FEATURES, {'samples': 1}, 'samples = 1 must be at least 2'),
    (FEATURES, {'by_figure': True}, 'by_figure = True needs data in which'),
    (FEATURES, {'sweep': {'weak': [['euler', 1]]}}, "the role 'weak'"),
  ],
)
def test_bad_values_are_refused_before_anything_is_drawn(
  features, options, message, tmp_path
):
  options = {'sweep': {'student': [['flow_map', 1]]}, **options}
  with pytest.raises(ValueError, match=message):
    few_step({'student': Replay(X0)}, SOURCE, features, tmp_path, **options)
