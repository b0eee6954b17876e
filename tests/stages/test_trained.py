"""The conditions of samples: given, of prompts, and in turn."""

import pathlib

import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.tables import resolve_stage
from flowdistill.datasets.texts import read_encoder
from flowdistill.stages.trained import conditions, conditions_at

PROMPTS = ['the digit three', 'digit', '']


@pytest.fixture(scope='module')
def told():
  """The blueprint of a stage with text and labels."""
  text = {'name': 'words', 'length': 4}
  spec = {
    'dataset': {'name': 'digits', 'text': text},
    'network': {'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2},
    'objective': {'name': 'rectified_flow'},
    'train': {'steps': 1},
  }
  here = pathlib.Path('nowhere')
  return tiny.blueprint(resolve_stage(spec), here, here)


def test_prompts_are_repeated_and_labels_go_through_all_classes(told):
  given = conditions(told, 5, prompts=PROMPTS, first=8)
  encoded = read_encoder(told.sees.text).encode(PROMPTS)
  assert given.keys() == {*encoded, 'label'}
  for name, rows in encoded.items():
    np.testing.assert_array_equal(given[name], rows[[0, 1, 2, 0, 1]])
  assert given['label'].tolist() == [8, 9, 0, 1, 2]


def test_a_batch_has_its_part_of_the_prompts(told):
  at = conditions_at(told, 5, 3, prompts=PROMPTS)
  whole, part = at(np.arange(5)), at(np.array([4, 2]))
  for name, rows in whole.items():
    np.testing.assert_array_equal(part[name], rows[[4, 2]])
  assert whole['label'].tolist() == [3] * 5


def test_one_prompt_is_for_all(told):
  one, each = (
    conditions(told, 3, 1, prompts=p) for p in ('digit', ['digit'] * 3)
  )
  for name, rows in each.items():
    np.testing.assert_array_equal(one[name], rows)


@pytest.mark.parametrize(
  ('how', 'message'),
  [
    ({'prompts': []}, r'prompts = \[\] must be one text'),
    ({'prompts': ['a digit']}, "no caption of the training had: 'a'"),
    (
      {'prompts': ['digit'], 'cond': {'mask': np.ones(4, bool)}},
      r"prompts give \['mask'\], which cond gives",
    ),
  ],
)
def test_prompts_that_cannot_be_drawn(told, how, message):
  with pytest.raises(ValueError, match=message):
    conditions_at(told, 3, **how)
