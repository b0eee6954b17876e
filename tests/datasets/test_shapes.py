"""The data set of captioned shapes."""

import numpy as np
import pytest

from flowdistill.datasets import DATASETS
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.shapes import shapes
from flowdistill.datasets.texts import words
from flowdistill.flow.spec import DataSpec
from flowdistill.metrics.geneval import TAGS


def test_an_example_is_a_function_of_seed_and_number():
  source = DATASETS['shapes'](size=32)
  batch = source[np.arange(12)]['x0']
  assert (batch.shape, batch.dtype) == ((12, 32, 32, 3), np.float32)
  assert batch.min() >= -1 and batch.max() <= 1
  np.random.default_rng(0)
  again = shapes(size=32, examples=20)
  for index in (11, 3, 0):
    np.testing.assert_array_equal(again[index]['x0'], batch[index])
    assert again.captions[index] == source.captions[index]
  other = shapes(size=32, seed=1)[np.arange(12)]['x0']
  pairs = zip(batch, other, strict=True)
  assert not any(np.array_equal(a, b) for a, b in pairs)


def test_captions_become_conditions_and_the_rest_stays():
  bare = shapes(examples=12)
  source = shapes(examples=12, text=lambda c: words(c, length=16))
  batch = source[np.arange(12)]
  assert batch['tokens'].shape == (12, 16)
  lengths = [len(caption.split()) for caption in bare.captions]
  np.testing.assert_array_equal(batch['mask'].sum(1), lengths)
  np.testing.assert_array_equal(batch['x0'], bare[np.arange(12)]['x0'])
  assert [*source.captions] == [*bare.captions]
  assert [*source.prompts] == [*bare.prompts]
  assert source.detect(batch['x0'][0]) == bare.detect(batch['x0'][0])
  assert not source.mirrors


FIRST = [
  'a drawing of a circle',
  'an image of a diamond together with a ring',
  'four stars',
  'a star that is green',
  'an image of a star below a ring on a grey background',
  'an image of a yellow cross and a red star on a white background',
]
SHAPE = 0.26852707053, 0.50095885168, 0.41038708815  # radius, x, y
MEANS = [0.774793, -0.912755, 0.886119, 0.102898, 0.108326, 0.886318]


def test_the_first_ones_are_these_in_every_version():
  source = shapes()
  assert [source.captions[i] for i in range(6)] == FIRST
  (shape,) = source.scene(0).shapes
  assert (shape.kind, shape.colour) == ('circle', 'orange')
  assert (shape.radius, shape.x, shape.y) == pytest.approx(SHAPE, abs=1e-9)
  means = source[np.arange(6)]['x0'].mean((1, 2, 3))
  assert means == pytest.approx(MEANS, abs=1e-3)


def test_without_classes_there_is_no_condition():
  source = shapes()
  assert source.spec == DataSpec((32, 32, 3))
  assert source.conditions(np.arange(3)) == {}
  assert {*source[0]} == {'x0'}


def test_labels_are_categories():
  source = shapes(classes='category')
  assert source.spec == DataSpec.labelled((32, 32, 3), 6, TAGS)
  label = source.conditions(np.arange(9))['label']
  assert label.dtype == np.int32
  tags = [source.scene(i).tag for i in range(9)]
  assert [TAGS[k] for k in label] == tags


def test_categories_take_turns_and_leave_the_rest_as_it_was():
  named = ('position', 'colors', 'position')
  source = shapes(examples=9, classes='category', categories=named)
  assert [source.scene(i).tag for i in range(9)] == [*named] * 3
  label = source.conditions(np.arange(9))['label']
  assert [TAGS[k] for k in label] == [*named] * 3
  assert source.conditions(1)['label'] == TAGS.index('colors')
  assert [prompt.tag for prompt in source.prompts] == [*named] * 3
  plain = shapes(examples=12, classes='category', categories=[*TAGS])
  same = shapes(examples=12, classes='category')
  assert plain == same
  only = shapes(examples=12, categories=('color_attr',) * 5)
  assert only.captions[5] == same.captions[5]


def test_batches_and_ends():
  source = shapes(size=24, examples=10, classes='category')
  assert (len(source), len(source.captions), len(source.prompts)) == (10,) * 3
  batch = next(make_batches(source, batch_size=16, seed=0))
  assert batch['x0'].shape == (16, 24, 24, 3)
  assert batch['label'].shape == (16,)
  np.testing.assert_array_equal(source[-1]['x0'], source[9]['x0'])
  with pytest.raises(IndexError, match='must lie in 0'):
    source[10]
  with pytest.raises(IndexError, match='must lie in 0'):
    source.captions[10]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 23}, r'size = 23 must lie in 24 \.\.\. 256'),
    ({'size': 257}, r'size = 257 must lie in 24 \.\.\. 256'),
    ({'examples': 0}, 'examples = 0 must be at least 1'),
    ({'seed': -1}, 'seed = -1 must lie in 0'),
    ({'classes': 'kind'}, "classes = 'kind' must be 'category' or none"),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'categories': ()}, r'categories = \(\) must be one or more of single_'),
    ({'categories': 'position'}, "categories = 'position' must be one or more"),
    ({'categories': ('places',)}, r"categories = \('places',\) must be one or"),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    shapes(**options)
