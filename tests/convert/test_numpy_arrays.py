"""NumPy's arrays in pickles, read without executing them."""

import io
import pickle

import numpy as np
import pytest

from flowdistill.convert.numpy_arrays import float_array
from flowdistill.convert.opcodes import interpret

X = np.arange(6.0).reshape(2, 3) / 7


def read(data):
  return float_array(interpret(io.BytesIO(data)))


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize(
  'x',
  [
    X,
    X.astype(np.float32),
    X.astype('>f8'),
    np.asfortranarray(X),
    X[:, ::2],
    X[0],
    np.full((), 3.0),
  ],
  ids=lambda x: f'{x.dtype.str}{x.shape}',
)
def test_any_protocol_gives_the_array(x, protocol):
  found = read(pickle.dumps(x, protocol))
  assert found.dtype == x.dtype.newbyteorder('=')
  np.testing.assert_array_equal(found, x)


def test_the_name_of_before_numpy_2_is_known():
  for protocol in (2, 5):
    data = pickle.dumps(X, protocol)
    for new in (b'numpy._core.multiarray', b'numpy._core.numeric'):
      old = new.replace(b'_core', b'core')
      data = data.replace(new + b'\n', old + b'\n')
      data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
    assert b'_core' not in data
    np.testing.assert_array_equal(read(pickle_without_frames(data)), X)


def pickle_without_frames(data):
  """A frame of protocol 4 and later says its length: take it out."""
  at = data.find(b'\x95')
  return data if at != 2 else data[:2] + data[11:]


def test_one_array_in_two_places_is_both():
  table = interpret(io.BytesIO(pickle.dumps({'a': X, 'b': X}, 4)))
  for _, node in table.pairs:
    np.testing.assert_array_equal(float_array(node), X)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (3.5, 'is not an array of NumPy'),
    ([1.0, 2.0], 'is not an array'),
    (np.arange(3), "array of type 'i8', not of floats"),
    (np.array([1j]), "array of type 'c16'"),
    (np.array([b'abc']), "array of type 'S3'"),
    (np.array([None]), "array of type 'O8'"),
    (np.zeros(2, [('a', 'f4')]), "array of type 'V4'"),
  ],
)
def test_anything_else_is_refused(value, message):
  with pytest.raises(ValueError, match=message):
    read(pickle.dumps(value, 4))


def test_parts_that_contradict_each_other_are_refused():
  data = pickle.dumps(X, 4)
  assert data.count(b'K\x02K\x03\x86') == 1
  with pytest.raises(ValueError, match=r'shape \[2, 9\], type float64 and 48'):
    read(data.replace(b'K\x02K\x03\x86', b'K\x02K\x09\x86'))
  with pytest.raises(ValueError, match='is not an array of NumPy'):
    read(data.replace(b't\x94b.', b't\x940.'))  # its state is thrown away
