"""Labels, conditions and examples that a user may give, and may not."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.build.given import (
  check_conditions,
  check_examples,
  check_label,
)
from flowdistill.flow.spec import Condition, DataSpec

CLASSES = DataSpec.labelled((4, 4, 3), 3)
TEXT = DataSpec(
  (2,),
  {
    'label': Condition((), 'int32', 3),
    'text': Condition((2, 3), 'float32', 0.0),
    'mask': Condition((2,), 'bool', False),
    'size': Condition((), 'int8', 0),
  },
)


def test_one_value_for_all_or_one_for_each():
  one = np.arange(6.0).reshape(2, 3)
  for value in (one, [one] * 4, jnp.asarray(one, jnp.bfloat16), one.tolist()):
    made = check_conditions(TEXT, 4, {'text': value})['text']
    assert (made.shape, made.dtype) == ((4, 2, 3), np.float32)
    np.testing.assert_array_equal(made[3], one)
  for value in ([1, 0], [1.0, 0.0], np.ones(2, np.uint8), True * np.ones(2)):
    made = check_conditions(TEXT, 3, {'mask': value})['mask']
    assert (made.shape, made.dtype) == ((3, 2), bool)
  for value in (2, np.int64(2), [2, 2, 2], np.array(2, np.uint8)):
    made = check_conditions(TEXT, 3, {'label': value})['label']
    np.testing.assert_array_equal(made, np.array([2, 2, 2], np.int32))


@pytest.mark.parametrize(
  'label',
  [
    2.7,
    2.0,
    float('nan'),
    -1,
    4,
    10**23,
    True,
    '1',
    'cat',
    [0, 1, 7],
    [0.5, 1.0],
    [None],
    np.float32(1),
    1j,
    np.array([0, -3]),
    object(),
  ],
)
def test_what_is_no_class(label):
  message = r'^label = .* must be an integer in 0 to 2, or 3 for "no class"$'
  with pytest.raises(ValueError, match=message):
    check_label(CLASSES, label)
  with pytest.raises(ValueError, match=message):
    check_conditions(CLASSES, 3, {'label': label})


def test_a_label_that_is_wrong_among_many_is_named():
  with pytest.raises(ValueError, match='^label = 99 must be'):
    check_label(CLASSES, np.r_[np.zeros(10**5, int), 99])


@pytest.mark.parametrize(
  ('cond', 'message'),
  [
    ({'label': [0, 1]}, r'^label has the shape \[2\]; it must be \[\], or \[3'),
    ({'label': [[0], [1], [2]]}, r'^label has the shape \[3, 1\]; it must be'),
    ({'label': [[0, 1], [2]]}, '^label must be an array: '),
    ({'txt': 0}, r"^cond has 'txt': .* did you mean 'text'"),
    ({'text': np.zeros((3, 2))}, r"^cond\['text'\] has the shape \[3, 2\]; it"),
    ({'text': np.zeros((4, 2, 3))}, r'\[4, 2, 3\]; .*or \[3, 2, 3\] for n = 3'),
    ({'text': np.full((2, 3), np.nan)}, r"^cond\['text'\] must be finite: it"),
    ({'text': np.full((2, 3), 1e300)}, 'no finite float32$'),
    ({'text': [['a'] * 3] * 2}, r"^cond\['text'\] has the dtype <U1; it must"),
    ({'text': np.full((2, 3), 1j)}, 'has the dtype complex128; it must be fl'),
    ({'text': None}, 'has the dtype object; it must be float32'),
    (
      {'mask': [0.5, 1]},
      r"^cond\['mask'\] must be bool: .*, such as 0.5$",
    ),
    ({'mask': [2, 1]}, 'none, such as 2$'),
    ({'mask': [np.nan, 1]}, 'none, such as nan$'),
    ({'size': 2.5}, 'none, such as 2.5$'),
    ({'size': 300}, 'none, such as 300$'),
    ({'size': 10**23}, 'has the dtype object'),
  ],
)
def test_what_is_no_condition(cond, message):
  with pytest.raises(ValueError, match=message):
    check_conditions(TEXT, 3, cond)


def test_without_classes_a_label_has_no_effect():
  for cond in ({'label': 1}, {'label': 2.5}):
    with pytest.raises(ValueError, match='^label = .* this data set has no cl'):
      check_conditions(DataSpec((2,)), 3, cond)


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
def test_examples_are_float32(dtype):
  x0 = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(dtype)
  for given in (x0, jnp.asarray(x0), x0.tolist()):
    made = check_examples((4, 4, 3), given)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, x0.astype(np.float32))
  points = check_examples((2,), [[50.0, 1e6]])
  np.testing.assert_array_equal(points, np.array([[50, 1e6]], np.float32))
  latents = np.full((1, 4, 4, 4), 30.0)
  assert check_examples((4, 4, 4), latents).max() == 30


PICTURE = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3)


@pytest.mark.parametrize(
  ('x0', 'message'),
  [
    ((PICTURE * 100).astype(np.uint8), 'dtype uint8; .* x0 / 127.5 - 1$'),
    (PICTURE > 0, '^x0 has the dtype bool; it must be float'),
    (PICTURE.astype(complex), '^x0 has the dtype complex128; it must be float'),
    (PICTURE.astype(object), '^x0 has the dtype object; it must be float'),
    ((PICTURE + 1) * 127.5, r'^x0 lies in \[0, 255\]; pictures must lie in'),
    (PICTURE * 128, r'^x0 lies in \[-128, 128\]; pictures must lie in'),
    (
      np.full_like(PICTURE, np.nan),
      '^x0 must be finite: it has values that are no fin',
    ),
    (
      np.full((1, 4, 4, 3), 1e300),
      '^x0 must be finite: it has values that are no finite float32',
    ),
    (PICTURE[0], r'^x0 has the shape \[4, 4, 3\]; it .* x0\[None\]$'),
    (PICTURE.transpose(0, 3, 1, 2), r'moveaxis\(x0, 1, -1\)$'),
    (PICTURE[..., :1], r'shape \[1, 4, 4, 1\]; it must be \[n, 4, 4, 3\] with'),
    (PICTURE[:0], r'shape \[0, 4, 4, 3\]; it must be \[n, 4, 4, 3\] with n of'),
    (PICTURE[:, :2], r'^x0 has the shape \[1, 2, 4, 3\]; it must be'),
    (PICTURE[None], r'^x0 has the shape \[1, 1, 4, 4, 3\]; it must be'),
    (0.5, r'^x0 has the shape \[\]; it must be'),
    ('moons', '^x0 has the dtype <U5; it must be float'),
    ([[0.5], [0.5, 1.0]], '^x0 must be an array: '),
    (None, '^x0 has the dtype object; it must be float'),
  ],
)
def test_what_is_no_example(x0, message):
  with pytest.raises(ValueError, match=message):
    check_examples((4, 4, 3), x0)
