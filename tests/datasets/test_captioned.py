"""Captions of any source as conditions."""

import copy
import functools

import numpy as np
import pytest

from flowdistill.datasets.captioned import (
  Captioned,
  encoded_as,
  with_text,
)
from flowdistill.datasets.digits import WORDS as NAMES
from flowdistill.datasets.digits import digits
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.texts import TEXTS
from flowdistill.flow.spec import DataSpec

WORDS = functools.partial(TEXTS['words'], length=4)


@pytest.mark.parametrize('name', sorted(TEXTS.keys() - {'encoded'}))
def test_examples_have_their_captions_as_conditions(name):
  source, plain = digits(text=TEXTS[name]), digits()
  assert len(source) == len(plain)
  rows = source[np.arange(9)]
  np.testing.assert_array_equal(rows['x0'], plain[np.arange(9)]['x0'])
  expected = source.encoder.encode(source.captions[:9])
  assert expected.keys() | {'label'} == source.spec.cond.keys()
  for condition, array in expected.items():
    np.testing.assert_array_equal(rows[condition], array)
    np.testing.assert_array_equal(source[3][condition], array[3])
    np.testing.assert_array_equal(
      source.conditions(np.arange(9))[condition], array
    )
  assert source.captions[:3] == [
    'the digit zero', 'the digit one', 'the digit two'
  ]  # fmt: skip


def test_batches_have_the_text_of_their_pictures():
  batch = next(make_batches(digits(text=WORDS), batch_size=64, seed=1))
  vocabulary = digits(text=WORDS).encoder.vocabulary
  said = [vocabulary[tokens[2]] for tokens in batch['tokens']]
  assert said == [NAMES[label] for label in batch['label']]


class Random:
  """Examples that are drawn anew in each epoch."""

  spec, captions, figures = DataSpec((2,)), ['red', 'blue'], np.arange(2)

  def __len__(self):
    return 2

  def draw(self, index, epoch, seed):
    x0 = np.repeat((index + 10 * epoch + seed)[:, None], 2, 1)
    return {'x0': x0.astype(np.float32)}


def test_examples_that_are_drawn_have_it_too():
  source = with_text(Random(), WORDS)
  batches = make_batches(source, batch_size=2, seed=3)
  for epoch in range(2):
    batch = next(batches)
    index = batch['x0'][:, 0] - 3 - 10 * epoch
    np.testing.assert_array_equal(batch['tokens'][:, 0], 1 - index)
  assert source.figures is Random.figures
  assert not hasattr(digits(text=WORDS), 'draw')
  assert copy.copy(source).spec == source.spec


def test_the_vocabulary_of_other_data():
  """Words that those do not have are token V, padding V + 1."""
  source = with_text(Random(), WORDS)
  other = encoded_as(source, TEXTS['words'](['red'], length=3).to_json())
  assert other.encoder.encode(['red', 'blue'])['tokens'].tolist() == [
    [0, 2, 2],
    [1, 2, 2],
  ]
  assert encoded_as(digits(), other.encoder.to_json()).spec == digits().spec


def test_it_must_have_captions_and_no_such_conditions():
  assert with_text(digits(), None).spec == digits().spec
  with pytest.raises(ValueError, match='text has no effect: these examples'):
    with_text(digits(), WORDS)
  twice = digits(text=WORDS)
  assert isinstance(twice, Captioned)
  with pytest.raises(ValueError, match=r"text makes \['mask', 'tokens'\]"):
    with_text(twice, WORDS)
  with pytest.raises(ValueError, match='with cut = False it must'):
    digits(text=functools.partial(TEXTS['words'], length=2, cut=False))
