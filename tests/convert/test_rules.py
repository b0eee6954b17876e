"""What the rules of all networks have in common; the rest: test_ncsnpp.py."""

import numpy as np
import pytest

from flowdistill.convert.prefixes import Naming
from flowdistill.convert.rules import Rule, needed, order, read

NAMING = Naming('XYZ', r'(enc|dec)\.', ignored=r'\.buffer$')


@pytest.mark.parametrize('axes', [(0,), (1, 0), (2, 3, 1, 0)])
@pytest.mark.parametrize('ones', [0, 2])
@pytest.mark.parametrize('negative', [False, True])
def test_a_rule_goes_there_and_back_to_the_byte(axes, ones, negative):
  rule = Rule('ours', 'theirs', axes, ones=ones, negative=negative)
  shape = (2, 3, 4, 5)[: len(axes)] + (1,) * ones
  theirs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  ours = rule.read(theirs)
  assert ours.shape == tuple(shape[axis] for axis in axes)
  assert rule.write(ours).shape == shape
  assert rule.write(ours).tobytes() == theirs.tobytes()


def test_what_is_ignored_is_neither_needed_nor_read():
  names = ['model.enc.weight', 'model.enc.buffer', 'ema.shadow_params.0', 'x']
  assert needed(names, NAMING, ema=False) == names[:1]
  assert needed(names, NAMING, ema=True) == [names[0], names[2]]
  arrays = {name: np.ones(3) for name in names}
  rules = [Rule('ours', 'enc.weight', (0,))]
  found = read(arrays, {'ours': (3,)}, rules, NAMING)
  np.testing.assert_array_equal(found['ours'], np.ones(3))


def test_words_come_in_their_order_and_numbers_by_size():
  words = ('down', 'up', 'steps', 'grow')
  layers = ['up.0.grow', 'up.0.steps.10', 'down.1', 'up.0.steps.2']
  found = sorted(layers, key=lambda layer: order(layer, words, NAMING))
  assert found == ['down.1', 'up.0.steps.2', 'up.0.steps.10', 'up.0.grow']
  with pytest.raises(ValueError, match='^middle.0 is no layer of an XYZ$'):
    order('middle.0', words, NAMING)
