"""Lengths: spellings, rounding, and errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.training.lengths import Length

counts = st.integers(min_value=0, max_value=10**9)
sizes = st.integers(min_value=1, max_value=10**5)


@given(counts, sizes, sizes)
def test_the_steps_of_a_number_of_images_just_cover_it(n, batch, data):
  steps = Length(images=n).to_steps(batch, data)
  assert (steps - 1) * batch < n <= steps * batch


@given(st.integers(0, 1000), sizes, sizes)
def test_whole_epochs_are_that_many_images(n, batch, data):
  length, same = Length(epochs=float(n)), Length(images=n * data)
  assert length.to_steps(batch, data) == same.to_steps(batch, data)


@given(counts, sizes, sizes)
def test_steps_are_steps(n, batch, data):
  assert Length(steps=n).to_steps(batch, data) == n


@given(st.integers(0, 10**5), st.sampled_from([1, 10, 100]))
def test_epochs_are_read_as_decimals(hundredths, batch):
  epochs = hundredths / 100  # 1.1 * 1000 / 100 is above 11 in floats
  expected = -(-hundredths * 10 // batch)
  assert Length(epochs=epochs).to_steps(batch, 1000) == expected


@pytest.mark.parametrize('unit', ['steps', 'images', 'epochs'])
def test_only_nothing_is_no_step(unit):
  assert Length(**{unit: 0}).to_steps(128, 1797) == 0
  assert Length(**{unit: 1}).to_steps(10**6, 3) == 1


def test_spellings():
  assert Length.of(500) == Length(steps=500)
  assert Length.of({'steps': 500}) == Length(steps=500)
  assert Length.of({'images': 7}) == Length(images=7)
  assert Length.of({'epochs': 2.5}) == Length(epochs=2.5)
  assert Length.of({'epochs': 2}) == Length(epochs=2)
  assert Length.of(Length(images=7)) == Length(images=7)
  assert str(Length(epochs=2.5)) == '2.5 epochs'


@pytest.mark.parametrize(
  ('value', 'error', 'message'),
  [
    (2.5, TypeError, r'integer \(steps\) or a dict .* got 2.5'),
    (True, TypeError, 'got True'),
    ('500', TypeError, "got '500'"),
    (None, TypeError, 'got None'),
    ({}, ValueError, 'exactly one of the keys steps, images, epochs, got {}'),
    ({'steps': 1, 'images': 2}, ValueError, 'exactly one'),
    ({'epoch': 2}, ValueError, "got {'epoch': 2}"),
    ({'steps': 2.5}, TypeError, 'in steps must be an integer, got 2.5'),
    ({'images': True}, TypeError, 'in images must be an integer, got True'),
    ({'epochs': '2'}, TypeError, "in epochs must be a number, got '2'"),
    ({'steps': None}, ValueError, 'exactly one'),
    (-1, ValueError, 'at least 0, got -1 steps'),
    ({'epochs': float('nan')}, ValueError, 'got nan epochs'),
    ({'epochs': float('inf')}, ValueError, 'got inf epochs'),
  ],
)
def test_bad_spellings(value, error, message):
  with pytest.raises(error, match=message):
    Length.of(value)


def test_exactly_one_unit():
  with pytest.raises(ValueError, match='exactly one of .* got none'):
    Length()
  with pytest.raises(ValueError, match="got {'steps': 1, 'epochs': 2.0}"):
    Length(steps=1, epochs=2.0)
