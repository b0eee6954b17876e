"""What examples are, abstractly: conditions, their null values, batches."""

import json

import jax
import numpy as np
import pytest

from flowdistill.flow.spec import Condition, DataSpec

TEXT = DataSpec(
  (4, 4, 1),
  {
    'label': Condition((), 'int32', 3),
    'text': Condition((2, 3), 'float32', ((0.0, 1.0, 2.0), (3.0, 4.0, 5.0))),
    'mask': Condition((2,), 'bool', False),
  },
  ('cat', 'dog', 'owl'),
)


def raw(n):
  return {
    'x0': np.zeros((n, 4, 4, 1), np.float32),
    'x1': np.ones((n, 4, 4, 1), np.float32),
    'label': np.arange(n, dtype=np.int32) % 3,
    'text': np.ones((n, 2, 3), np.float32),
    'mask': np.ones((n, 2), bool),
  }


def test_a_batch_has_conditions_and_their_null_values():
  batch = TEXT.batch(raw(5))
  assert sorted(batch) == ['cond', 'null', 'x0', 'x1']
  np.testing.assert_array_equal(batch['null']['label'], [3] * 5)
  assert batch['null']['label'].dtype == np.int32
  assert not batch['null']['mask'].any()
  expected = np.arange(6.0).reshape(1, 2, 3).repeat(5, 0)
  np.testing.assert_array_equal(batch['null']['text'], expected)
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), batch)
  abstract = jax.tree.map(lambda x: (x.shape, x.dtype), TEXT.abstract(5))
  del shapes['x1']
  assert shapes == abstract


def test_without_conditions_there_is_nothing_to_condition_on():
  batch = DataSpec((2,)).batch({'x0': np.zeros((3, 2)), 'noise': np.ones(3)})
  assert batch['cond'] == batch['null'] == {}
  assert sorted(batch) == ['cond', 'noise', 'null', 'x0']


def test_what_the_spec_does_not_know_is_no_condition_of_the_data():
  """Such as the guidance scale: it has no null value."""
  cond = {'label': np.zeros(2, np.int32), 'guidance': np.full(2, 1.5)}
  null = TEXT.null(cond)
  np.testing.assert_array_equal(null['label'], [3, 3])
  np.testing.assert_array_equal(null['guidance'], [1.5, 1.5])


def test_json_has_all_of_it():
  text = json.dumps(TEXT.to_json())
  assert DataSpec.of(json.loads(text)) == TEXT
  assert str(TEXT) == ('[4, 4, 1] with 3 classes, text [2, 3], mask [2]')
  assert str(DataSpec((2,))) == '[2]'


def test_classes_are_named_all_or_none():
  spec = DataSpec.labelled((2,), 2, ['a', 'b'])
  assert (spec.num_classes, spec.classes) == (2, ('a', 'b'))
  assert DataSpec.labelled((2,), 0).cond == {}
  with pytest.raises(ValueError, match='1 names and must have 2'):
    DataSpec.labelled((2,), 2, ['a'])


def test_every_class_in_turn():
  label = DataSpec.labelled((2,), 3).each_class(np.arange(2, 7))['label']
  assert label.dtype == np.int32
  np.testing.assert_array_equal(label, [2, 0, 1, 2, 0])
  assert DataSpec((2,)).each_class(np.arange(3)) == {}
