"""--of: images that are measured without a model."""

import json

import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_digits

from flowdistill.build.placed import Placed
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import evaluate_images
from flowdistill.jobs.evaluate import Options
from flowdistill.metrics.frechet import frechet_distance, sampling_bias
from flowdistill.metrics.moments import moments
from flowdistill.metrics.precision_recall import precision_recall
from flowdistill.networks import FEATURES
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import Layout

PIXELS = (load_digits().images * 255 / 16).round().astype(np.uint8)
DIGITS = ({'name': 'digits'},)


@pytest.fixture
def place(tmp_path, monkeypatch):
  """a: a folder of 300 digits; b.npz: 500 others."""
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / 'a'
  folder.mkdir()
  for i, image in enumerate(PIXELS[:300]):
    PIL.Image.fromarray(image).save(folder / f'{i}.png')
  np.savez('b.npz', arr_0=PIXELS[300:800, ..., None])
  return tmp_path


def features(pixels):
  x = pixels[..., None].astype(np.float32) / 127.5 - 1
  network = Placed(FEATURES['digits'](), Layout(make_mesh()))
  return network(x)['features']


def measure(**options):
  given = {'of': 'a', 'against': 'b.npz', 'features': DIGITS} | options
  return evaluate_images.run(Options(**given))


def test_two_sets_of_images_against_each_other(place):
  metrics = 'frechet', {'name': 'precision_recall', 'k': 4}
  (row,) = measure(metrics=metrics, out='figures')
  ours, real = features(PIXELS[:300]), features(PIXELS[300:800])
  expected = frechet_distance(moments(ours), moments(real))
  assert row['frechet_digits'] == pytest.approx(expected, rel=1e-5)
  bias = sampling_bias(moments(real), 300)
  assert row['frechet_digits_bias'] == pytest.approx(bias, rel=1e-5)
  recall = precision_recall(ours, real, k=4)['recall']
  assert row['recall_digits'] == pytest.approx(recall, rel=1e-6)
  assert (row['model'], row['samples'], row['sets']) == ('a', 300, 1)
  assert (row['reference'], row['codec']) == ('b.npz, 500', 'png')
  assert row['metrics'] == 'precision_recall k=4'
  assert not {'sampler', 'nfe', 'seed'} & set(row)
  text = (place / 'figures' / 'results.json').read_text()
  assert json.loads(text) == [row]
  assert [p.name for p in (place / 'figures').iterdir()] == ['results.json']


def test_in_disjoint_sets_figures_have_a_spread(place):
  (row,) = measure(sets=3)
  real = moments(features(PIXELS[300:800]))
  parts = [moments(features(PIXELS[i : i + 100])) for i in (0, 100, 200)]
  found = [frechet_distance(part, real) for part in parts]
  assert row['frechet_digits'] == pytest.approx(np.mean(found), rel=1e-5)
  spread = np.std(found, ddof=1)
  assert row['frechet_digits_spread'] == pytest.approx(spread, rel=1e-4)


def test_images_that_are_in_no_set_are_said(place, capsys):
  (row,) = measure(sets=7)
  assert (row['samples'], row['sets']) == (42, 7)
  assert '6 of 300 images are in none of the 7 sets' in capsys.readouterr().out


def test_statistics_of_a_file_are_those_of_its_images(place):
  assert measure(of='b.npz', against='', out='ref.npz') == []
  (direct,) = measure()
  (row,) = measure(against='ref.npz')
  assert row['frechet_digits'] == pytest.approx(direct['frechet_digits'])
  assert row['reference'] == 'ref.npz'
  assert row['reference_sha256'] != direct['reference_sha256']


def test_images_are_at_no_distance_from_themselves(place):
  (row,) = measure(against='a')
  assert row['frechet_digits'] < 1e-6
  assert row['of_sha256'] == row['reference_sha256']


def test_a_second_evaluation_adds_its_row(place):
  measure(out='figures')
  measure(out='figures', sets=2)
  measure(out='figures')
  rows = json.loads((place / 'figures' / 'results.json').read_text())
  assert sorted(row['sets'] for row in rows) == [1, 2]


def odd(place, name, array):
  np.savez(place / name, arr_0=array)


BAD = {
  '--of=nowhere: ': {'of': 'nowhere'},
  '--of needs --features': {'features': ()},
  '--of needs --against': {'against': ''},
  r'--features: features\.name = .nothing. does not exist': {
    'features': ('nothing',)
  },
  "must have a name, like 'name=kernel": {'features': ({'path': 'x'},)},
  r"--features: .*path = '' must be the file of inception's": {
    'features': ('inception',)
  },
  '--against=nowhere.npz: ': {'against': 'nowhere.npz'},
  '--against=large.npz has images of 16 x 16 in grey, and --of=a of 8 x 8': {
    'against': 'large.npz'
  },
  '--of=large.npz has images|--against=b.npz has images of 8 x 8 in grey': {
    'of': 'large.npz'
  },
  '--of=tall.npz: the features are of images of 8 x 8': {
    'of': 'tall.npz',
    'against': 'tall.npz',
  },
  '--of=nan.npz: ': {'of': 'nan.npz'},
  '--against=theirs.npz: .*features of length 2048': {'against': 'theirs.npz'},
  'metrics.kernel': {'metrics': ('kernel',)},
  'samples = 100 must be at least 200': {
    'metrics': ({'name': 'kernel', 'size': 200},),
    'sets': 3,
  },
  'metrics.clip_score needs pairs, which digits': {'metrics': ('clip_score',)},
  'metrics.spatial_frechet needs spatial, which digits': {
    'metrics': ('spatial_frechet',)
  },
  'does not exist; did you mean .frechet': {'metrics': ('frechett',)},
  'need the real examples, and evaluation.reference has moments only': {
    'metrics': ({'name': 'precision_recall'},),
    'against': 'ref.npz',
  },
  '--of=x{300}: ': {'of': 300 * 'x'},
  '--against=x{300}: ': {'against': 300 * 'x'},
  '--out=x{300}/a.npz must be in a folder that exists': {
    'against': '',
    'out': f'{300 * "x"}/a.npz',
  },
  '--nfe has no effect with --of': {'nfe': (1,)},
  '--samples has no effect with --of': {'samples': 50},
  '--sets=|sets = -1 must be at least 1': {'sets': -1},
  '--out=far/ref.npz must be in a folder that exists': {
    'against': '',
    'out': 'far/ref.npz',
  },
}


@pytest.mark.parametrize('message', BAD)
def test_bad_input_is_refused_before_anything_is_measured(
  place, message, monkeypatch
):
  odd(place, 'large.npz', np.zeros((9, 16, 16, 1), np.uint8))
  odd(place, 'tall.npz', np.zeros((9, 12, 8, 1), np.uint8))
  x = np.zeros((9, 8, 8, 1), np.float32)
  x[3] = np.nan
  np.savez(place / 'nan.npz', x0=x)
  mu, sigma = np.zeros(2048), np.eye(2048)
  np.savez(place / 'theirs.npz', mu=mu, sigma=sigma)
  if 'ref.npz' in BAD[message].get('against', ''):
    measure(of='b.npz', against='', out='ref.npz')
  monkeypatch.setattr(Placed, '__call__', None)
  with pytest.raises(ConfigError, match=message) as caught:
    measure(**BAD[message])
  assert '\n' not in str(caught.value)
