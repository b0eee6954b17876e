"""Our file of moments: whole, checked, and of what is wanted."""

import numpy as np
import pytest

from flowdistill.build.statistics import (
  Statistics,
  read_statistics,
  write_statistics,
)
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.metrics.moments import Moments, moments

X = np.random.default_rng(0).standard_normal((20, 5))
WHAT = {'network': 'inception', 'sha256': 'ab', 'size': [32, 32], 'é': None}


@pytest.fixture
def path(tmp_path):
  write_statistics(tmp_path / 'x.npz', Statistics(moments(X), WHAT))
  return tmp_path / 'x.npz'


def rewrite(path, **changes):
  with np.load(path) as file:
    arrays = {**file, **changes}
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


def test_what_is_written_is_read_to_the_last_digit(path):
  found = read_statistics(path, WHAT)
  assert found.provenance == WHAT
  assert found.moments.count == 20
  np.testing.assert_array_equal(found.moments.mean, moments(X).mean)
  np.testing.assert_array_equal(found.moments.covariance, moments(X).covariance)


def test_equal_moments_are_equal_files(path, tmp_path):
  again = dict(reversed(WHAT.items()))
  write_statistics(tmp_path / 'y.npz', Statistics(moments(X), again))
  assert (tmp_path / 'y.npz').read_bytes() == path.read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['x.npz', 'y.npz']


def test_any_provenance_is_read_where_none_is_wanted(path):
  assert read_statistics(path).provenance == WHAT


def test_a_tuple_is_a_list(path):
  assert read_statistics(path, {**WHAT, 'size': (32, 32)}).moments.count == 20


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'network': 'dinov2'}, 'network = "inception" must be "dinov2"'),
    ({'size': [64, 64]}, r'size = \[32, 32\] must be \[64, 64\]'),
    ({'resize': 'pil'}, 'resize = absent must be "pil"'),
    (
      {'é': 0, 'sha256': 'cd'},
      'sha256 = "ab" must be "cd"; é = null must be 0',
    ),
    ({'size': [True, 32]}, r'size = \[32, 32\] must be \[true, 32\]'),
  ],
)
def test_those_of_something_else_are_refused(path, change, message):
  with pytest.raises(ValueError, match=message) as caught:
    read_statistics(path, {**WHAT, **change})
  assert not isinstance(caught.value, DamagedFileError)
  assert str(path) in str(caught.value)


def test_a_provenance_that_says_more_is_refused(path):
  with pytest.raises(ValueError, match='sha256 = "ab" must be absent'):
    read_statistics(path, {k: v for k, v in WHAT.items() if k != 'sha256'})


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'count': None}, "it has no 'count'"),
    ({'provenance': None}, "it has no 'provenance'"),
    ({'mean': np.zeros(4)}, r'damaged: .* not \[4\] and \[5, 5\]'),
    ({'mean': np.full(5, np.nan)}, 'damaged: the mean must be finite'),
    ({'covariance': -np.eye(5)}, 'positive semi-definite'),
    ({'count': np.int64(1)}, 'at least 2, not 1'),
    ({'count': np.float64(20)}, 'its count or provenance'),
    ({'count': np.zeros(2, int)}, 'its count or provenance'),
    ({'provenance': np.zeros(3)}, 'its count or provenance'),
    ({'provenance': np.frombuffer(b'{"a', np.uint8)}, 'is cut at column'),
    ({'provenance': np.frombuffer(b'[1]', np.uint8)}, 'must be an object'),
  ],
)
def test_damaged_files_are_named(path, changes, message):
  rewrite(path, **changes)
  with pytest.raises(DamagedFileError, match=message) as caught:
    read_statistics(path)
  assert str(path) in str(caught.value)


def test_other_files_are_named(tmp_path):
  (tmp_path / 'x.npz').write_bytes(b'no archive')
  with pytest.raises(ValueError, match=r'x\.npz is not an \.npz file'):
    read_statistics(tmp_path / 'x.npz')
  with pytest.raises(FileNotFoundError, match=r'y\.npz'):
    read_statistics(tmp_path / 'y.npz')


def test_what_cannot_be_written_leaves_the_old_file(path):
  before = path.read_bytes()
  unknown = Moments(np.zeros(2), np.eye(2), None)
  for statistics, error in (
    (Statistics(unknown, WHAT), ValueError),
    (Statistics(moments(X), {'a': float('nan')}), ValueError),
    (Statistics(moments(X), {'a': np.zeros(2)}), TypeError),
  ):
    with pytest.raises(error):
      write_statistics(path, statistics)
  assert path.read_bytes() == before
