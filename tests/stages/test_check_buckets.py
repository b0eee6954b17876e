"""Which networks take pictures of other shapes than that of the data."""

from types import SimpleNamespace

import pytest
from flax import nnx

from flowdistill.build.models import shape_model
from flowdistill.config.bind import ConfigError
from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.flow.spec import DataSpec
from flowdistill.networks import NETWORKS
from flowdistill.stages.check_buckets import answer_shape, check_buckets

MAIN, WIDE = DataSpec((16, 16, 3)), DataSpec((12, 20, 3))
POINTS = ('mlp',)
NOT_SAMPLED = ('stylegan2_discriminator',)
NEED_TEXT = ('flux', 'sd3')
STORED = ('dit', 'sit')  # positions of the tokens of one shape


def model(name, **options):
  tiny = {**TINY_NETWORKS[name], **options}
  return shape_model(lambda: NETWORKS[name](MAIN, **tiny, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
  'name',
  sorted({*TINY_NETWORKS} - {*POINTS, *NOT_SAMPLED, *STORED, *NEED_TEXT}),
)
def test_networks_without_stored_positions_take_any_shape(name):
  levels = {} if name == 'mmdit' else {'ch_mult': (1, 2)}
  assert answer_shape(model(name, **levels), WIDE) == WIDE.shape
  assert answer_shape(model(name, **levels), MAIN) == MAIN.shape


@pytest.mark.parametrize('name', STORED)
def test_stored_positions_are_those_of_one_shape(name):
  network = model(name)
  assert answer_shape(network, MAIN) == MAIN.shape
  with pytest.raises((TypeError, ValueError)):
    answer_shape(network, WIDE)


@pytest.mark.parametrize('name', STORED)
def test_as_many_tokens_in_another_shape_are_found_out(name):
  """8 x 32 has the tokens of 16 x 16, and the answer is a square."""
  assert answer_shape(model(name), DataSpec((8, 32, 3))) == MAIN.shape


def test_levels_that_do_not_divide_a_side_are_found_out():
  with pytest.raises((TypeError, ValueError)):
    answer_shape(model('unet', ch_mult=(1, 1, 1)), DataSpec((12, 18, 3)))


@pytest.mark.parametrize(
  ('pairs', 'data_free', 'why'),
  [
    ('stage:pairs', False, 'the pairs that are trained on have one shape'),
    (None, True, 'no picture is read, as train.data_free = True'),
  ],
)
def test_a_stage_that_uses_no_bucket_is_refused(pairs, data_free, why):
  blueprint = SimpleNamespace(
    data=SimpleNamespace(buckets=[(16, 16, 3), (12, 20, 3)]),
    stage=SimpleNamespace(
      pairs=pairs, train=SimpleNamespace(data_free=data_free)
    ),
    key=lambda key: f'stages.s.{key}',
  )
  message = f'^config.stages.s.dataset.buckets has no effect: {why}$'
  with pytest.raises(ConfigError, match=message):
    check_buckets(blueprint)
