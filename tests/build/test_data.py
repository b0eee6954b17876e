"""A data set with captions, beside others that are encoded as it is."""

import functools

import numpy as np
import pytest

from flowdistill.build.data import Data, DataRecord
from flowdistill.datasets.digits import digits
from flowdistill.datasets.texts import TEXTS

WORDS = functools.partial(TEXTS['words'], length=3)


def data(text=WORDS, **options):
  return Data(lambda: digits(text=text, **options))


@functools.lru_cache(maxsize=1)
def greek():
  """Digits of a vocabulary of which no word of theirs is a part."""
  source = digits(text=lambda _: WORDS(['alpha beta']))
  return Data(lambda: source)


def test_held_out_examples_are_encoded_as_the_training_data():
  held_out = data().encoded_as(greek())
  assert held_out.spec.text == greek().spec.text
  assert held_out.spec.cond.keys() == greek().spec.cond.keys()
  tokens = held_out.conditions(np.arange(4))['tokens']
  np.testing.assert_array_equal(tokens, 2)  # the token of all other words
  np.testing.assert_array_equal(held_out[np.arange(4)]['tokens'], 2)
  assert data().encoded_as(data()).spec == data().spec


def test_a_record_has_the_vocabulary_whatever_the_data_are_now():
  record = DataRecord.of(greek().record.to_json())
  assert record == greek().record
  later = Data(lambda: digits(text=WORDS), record)
  assert later.spec == greek().spec
  np.testing.assert_array_equal(
    later.conditions(np.arange(4))['tokens'],
    greek().conditions(np.arange(4))['tokens'],
  )


@pytest.mark.parametrize(
  'text',
  [None, TEXTS['bytes'], functools.partial(TEXTS['words'], length=4)],
  ids=['none', 'bytes', 'longer'],
)
def test_another_encoder_is_refused(text):
  with pytest.raises(ValueError, match='^text must be that of the data that'):
    data(text).encoded_as(greek())


def test_data_without_text_are_unchanged():
  plain = data(None)
  assert plain.encoded_as(data(None, split='train')) is plain
