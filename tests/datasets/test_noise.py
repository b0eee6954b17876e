import numpy as np
import pytest

from flowdistill.datasets.noise import noise
from flowdistill.datasets.split import split_indices


def test_it_has_the_shape_and_labels_that_are_asked_for():
  source = noise(size=64, shape=(4, 4, 3), classes=7)
  assert source.spec.shape == (4, 4, 3)
  assert source.spec.num_classes == 7
  x0, label = source[np.arange(64)].values()
  assert x0.shape == (64, 4, 4, 3)
  assert x0.dtype == np.float32
  assert abs(x0.mean()) < 0.1
  assert abs(x0.std() - 1) < 0.1
  assert set(label) == set(range(7))
  again = noise(size=64, shape=(4, 4, 3), classes=7)
  np.testing.assert_array_equal(again[np.arange(64)]['x0'], x0)
  assert len(np.unique(x0)) > 0.99 * x0.size


def test_an_example_is_a_function_of_its_number():
  asked = {'size': 20, 'shape': (2, 3), 'conditions': {'text': (4,)}}
  whole = noise(**asked)[np.arange(20)]
  for split in ('train', 'validation'):
    part = noise(split=split, **asked)
    index = split_indices(20, split)
    for name, array in part[np.arange(len(part))].items():
      np.testing.assert_array_equal(array, whole[name][index])
    one = part[0]
    assert {n: one[n].shape for n in one} == {
      'x0': (2, 3), 'label': (), 'text': (4,),
    }  # fmt: skip
    for name, array in part.conditions(0).items():
      np.testing.assert_array_equal(array, whole[name][index[0]])
  assert not np.allclose(whole['text'][:, :3], whole['x0'][:, 0])


def test_as_many_as_imagenet_need_no_memory():
  source = noise(size=1_281_167, shape=(64, 64, 4))
  assert len(source) == 1_281_167
  assert source[-1]['x0'].shape == (64, 64, 4)


def test_it_may_have_no_labels_and_is_split():
  assert not noise(size=8, shape=(2,), classes=0).spec.cond
  parts = [len(noise(size=50, split=s)) for s in ('train', 'validation')]
  assert sum(parts) == 50
  assert min(parts) > 0


def test_further_conditions_are_noise():
  asked = {'text': (3, 5), 'pooled': (4,)}
  source = noise(size=64, shape=(2,), classes=0, conditions=asked)
  assert {n: c.shape for n, c in source.spec.cond.items()} == asked
  text = source[np.arange(64)]['text']
  assert text.shape == (64, 3, 5)
  assert abs(text.std() - 1) < 0.1
  assert not source.spec.cond['text'].full(2).any()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 0}, '^size = 0 must be at least 1'),
    ({'shape': ()}, r'^shape = \(\) must be lengths'),
    ({'shape': (8, 0, 3)}, r'^shape = \(8, 0, 3\) must be lengths'),
    ({'classes': -1}, '^classes = -1 must be at least 0'),
    ({'conditions': {'text': (0,)}}, r"^conditions\['text'\] = \(0,\) must be"),
    ({'conditions': {'label': (3,)}}, 'another name than x0 and label'),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=message):
    noise(**options)
