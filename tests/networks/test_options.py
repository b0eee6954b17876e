"""The options and conditions of all networks; of each: test_networks.py."""

import re

import pytest
from flax import nnx
from networks.tiny import EVERY, SHAPES, make

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.options import NetworkOptions

LABEL = Condition((), 'int32', 3)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'max_frequency': 0.0}, 'max_frequency = 0.0 must be above 0'),
    ({'dtype': 'float16'}, "dtype = 'float16' must be one of 'bfloat16', 'fl"),
    (
      {'attention_form': 'fast'},
      "attention_form = 'fast' must be one of 'plain', 'blockwise', 'fused'",
    ),
    (
      {'attention_form': 'fused'},
      "attention_form = 'fused' must have dtype = 'bfloat16', not 'float32'",
    ),
    ({'remat': 'all'}, "remat = 'all' must be None or one of 'dots', 'full'"),
    ({'scalars': ('a', 'b', 'a')}, "scalars = ('a', 'b', 'a') must be differ"),
    ({'scalars': ('label',)}, "scalars = ('label',) must be different words"),
    ({'scalars': ('a b',)}, "scalars = ('a b',) must be different words"),
  ],
)
def test_options_out_of_range_raise(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    NetworkOptions(**options)


@EVERY
@pytest.mark.parametrize(
  ('cond', 'message'),
  [
    (
      {'control': Condition((4, 6, 2))},
      "takes no condition 'control'; it takes 'label'.* configured with$",
    ),
    (
      {'label': LABEL, 'score': Condition(())},
      "takes no condition 'score'; .*to embed it, add 'score' to scalars$",
    ),
    (
      {'guidance': Condition((2,))},
      r"must name scalar conditions; 'guidance' has shape \[2\]$",
    ),
  ],
)
def test_a_condition_that_a_network_does_not_take_is_named(name, cond, message):
  spec = DataSpec(SHAPES[name], cond)
  where = 'scalars' if 'guidance' in cond else name
  with pytest.raises(ValueError, match=f'^{where} .*{message}'):
    make(name, spec=spec, scalars=('guidance',))


@pytest.mark.parametrize('name', sorted({*SHAPES} - {'dit', 'mmdit', 'unet'}))
@pytest.mark.parametrize('cond', ['text', 'pooled'])
def test_other_networks_take_no_text(name, cond):
  spec = DataSpec(SHAPES[name], {cond: Condition((3, 4))})
  with pytest.raises(ValueError, match=f"^{name} takes no condition '{cond}'"):
    make(name, spec=spec)


@EVERY
def test_a_scalar_condition_of_the_data_is_embedded_by_its_name(name):
  spec = DataSpec(SHAPES[name], {'label': LABEL, 'score': Condition(())})
  net = nnx.eval_shape(lambda: make(name, spec=spec, scalars=('score',)))
  assert net.scalars.names == ('score',)
