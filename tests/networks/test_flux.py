"""FLUX.1: its size, its tokens, its conditions and its two times."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.test_precision import FINE, equations
from networks.tiny import changed, run, size
from networks.tiny_flux import (
  COND,
  IMAGE,
  MASKED,
  B,
  inputs,
  make,
  shaped,
  trained,
)

from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.networks.flux import Flux
from flowdistill.networks.flux_positions import (
  angles_of,
  pack,
  positions,
  rotate,
  unpack,
)

LATENTS = (64, 64, 16)
PUBLISHED = {'text': Condition((512, 4096)), 'pooled': Condition((768,))}
FIELDS = {
  'patch_size': 1,
  'in_channels': 64,
  'out_channels': None,
  'num_layers': 19,
  'num_single_layers': 38,
  'attention_head_dim': 128,
  'num_attention_heads': 24,
  'joint_attention_dim': 4096,
  'pooled_projection_dim': 768,
  'axes_dims_rope': (16, 56, 56),
}
"""Of config.json of FLUX.1-dev and FLUX.1-schnell, but for guidance_embeds."""
EMBEDDER = (256 * 3072 + 3072) + (3072 * 3072 + 3072)


def count(spec=None, **options):
  spec = spec or DataSpec(LATENTS, PUBLISHED)
  net = nnx.eval_shape(
    lambda: Flux(spec, **{**FIELDS, **options}, rngs=nnx.Rngs(0))
  )
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.split(net)[1]))


@functools.cache
def velocity():
  """That of a network without options."""
  x, t, _, cond = inputs()
  return np.asarray(run(*trained(), x, t, t, cond))


def test_it_has_the_parameters_that_were_published():
  schnell, dev = 11_891_178_560, 11_901_408_320
  assert count() == schnell
  assert count(guidance_embeds=True) == dev == schnell + EMBEDDER
  filled = {**PUBLISHED, 'control': Condition((*LATENTS[:2], 80))}
  fields = {'in_channels': 384, 'out_channels': 64, 'guidance_embeds': True}
  assert count(DataSpec(LATENTS, filled), **fields) == 11_902_391_360


def test_features_of_a_token_are_by_channel_row_and_column():
  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  tokens = np.asarray(pack(jnp.asarray(x)))
  assert tokens.shape == (2, 6, 12)
  found = tokens[1, 1 * 3 + 2].reshape(3, 2, 2)  # token of row 1, column 2
  np.testing.assert_array_equal(found, x[1, 2:4, 4:6].transpose(2, 0, 1))
  np.testing.assert_array_equal(unpack(jnp.asarray(tokens), (2, 3)), x)


def test_positions_are_those_of_the_packed_grid():
  places = positions(2, (2, 3))
  np.testing.assert_array_equal(places[:2], 0)
  assert [tuple(p) for p in places[2:]] == [
    (0, i, j) for i in range(2) for j in range(3)
  ]
  angles = angles_of(places, (2, 4, 4))
  assert angles.shape == (8, 5) and angles.dtype == np.float64
  np.testing.assert_allclose(angles[-1], [0, 1, 1e-2, 2, 2e-2])


def test_a_rotation_multiplies_adjacent_pairs_as_complex_numbers():
  rng = np.random.default_rng(0)
  x, angles = rng.normal(size=(2, 3, 8)), rng.normal(size=(3, 4))
  z = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
  wanted = np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
  np.testing.assert_allclose(rotate(jnp.asarray(x), angles), wanted, atol=1e-5)


def test_without_a_target_time_it_answers_a_velocity():
  x, t, s, cond = inputs()
  net, v = trained(), velocity()
  np.testing.assert_array_equal(v, run(*net, x, t, s, cond))
  assert size(v - run(*net, x, s, s, cond)) > 1e-3
  assert nnx.merge(*net).signature == Flux.signature == 'velocity'
  assert make(target_time='midpoint').signature == 'average'


def test_with_a_scaled_gap_it_is_pretrained_at_equal_times_to_the_bit():
  """Whatever the second embedding is; parameters are drawn by their path."""
  x, t, s, cond = inputs()
  v = velocity()
  net = trained(target_time='scaled_gap')
  np.testing.assert_array_equal(run(*net, x, t, t, cond), v)
  assert size(run(*net, x, t, s, cond) - v) > 1e-3


@pytest.mark.slow
def test_with_a_sum_it_is_pretrained_while_the_second_is_zero_to_the_bit():
  x, t, s, cond = inputs()
  v = velocity()
  graph, params = trained(target_time='sum')
  assert size(run(graph, params, x, t, s, cond) - v) > 1e-3
  zero = changed(
    params,
    lambda path, w: 0 * w if path[:3] == ('times', 'of_s', 'second') else w,
  )
  np.testing.assert_array_equal(run(graph, zero, x, t, s, cond), v)


@pytest.mark.slow
@pytest.mark.usefixtures('x64')
def test_jvp_is_the_derivative():
  """Against central differences of order four, in x, in t and in s."""
  net = trained(weights=np.float64, target_time='scaled_gap')
  x, t, s, cond = inputs(np.float64)

  @jax.jit
  def moved(h, dx, dt, ds):
    return run(*net, x + h * dx, t + h * dt, s + h * ds, cond)

  @jax.jit
  def derivative(*direction):
    return jax.jvp(lambda *p: run(*net, *p, cond), (x, t, s), direction)[1]

  zero, one, h = 0 * t, 1 + 0 * t, 1e-5  # 1000 t turns fast
  for along in (
    (jnp.cos(7 * x), zero, zero),
    (0 * x, one, zero),
    (0 * x, zero, one),
  ):
    near = moved(h, *along) - moved(-h, *along)
    far = moved(2 * h, *along) - moved(-2 * h, *along)
    slope = derivative(*along)
    assert size(slope) > 1e-2
    assert size(slope - (8 * near - far) / (12 * h)) < 1e-6 * size(slope)


@pytest.mark.slow
def test_every_parameter_has_an_effect():
  x, t, s, cond = inputs()
  control = jnp.ones((B, *IMAGE[:2], 2))
  spec = DataSpec(IMAGE, {**COND, 'control': Condition((*IMAGE[:2], 2))})
  graph, params = trained(
    spec, target_time='scaled_gap', sign=True, guidance_embeds=True,
    scalars=('guidance',), num_layers=2,
  )  # fmt: skip
  cond = {**cond, 'control': control, 'guidance': jnp.array([1.0, 2.0])}
  grads = jax.grad(lambda p: jnp.square(run(graph, p, x, -t, -s, cond)).sum())(
    params
  )
  for path, leaf in nnx.to_flat_state(grads):
    assert size(leaf.get_value()) > 1e-6, path


def test_only_large_products_are_rounded():
  """Those of a block with parameters and of its attention; no time is."""
  graph, params = shaped(
    dtype='bfloat16', guidance_embeds=True, target_time='sum'
  )
  program = jax.make_jaxpr(functools.partial(run, graph))(params, *inputs())
  used = [
    (each.primitive.name, each.invars[0].aval.dtype)
    for each in equations(program)
    if each.invars
  ]
  rounded = [name for name, dtype in used if dtype == jnp.bfloat16]
  # query, key, value, out, up, down of both streams; those of a single block.
  assert rounded.count('dot_general') == (2 * 6 + 2) + (5 + 2)
  assert not FINE & {*rounded}


@pytest.mark.slow
def test_padding_of_a_mask_has_no_effect():
  x, t, s, cond = inputs()
  mask = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
  net = trained(MASKED)
  u = run(*net, x, t, s, {**cond, 'mask': mask})
  other = np.where(mask[..., None], cond['text'], np.nan)
  np.testing.assert_array_equal(
    run(*net, x, t, s, {**cond, 'mask': mask, 'text': other}), u
  )
  whole = run(*net, x, t, s, {**cond, 'mask': np.ones_like(mask)})
  assert size(whole - u) > 1e-3
  np.testing.assert_allclose(whole, velocity(), atol=1e-5)


@pytest.mark.slow
def test_the_guidance_scale_is_that_of_the_option_or_of_the_condition():
  x, t, s, cond = inputs()
  u = run(*trained(guidance_embeds=True), x, t, s, cond)
  net = trained(guidance_embeds=True, distilled_guidance=2.0)
  given = {**cond, 'distilled_guidance': jnp.full(B, 3.5)}
  np.testing.assert_array_equal(run(*net, x, t, s, given), u)
  assert size(run(*net, x, t, s, cond) - u) > 1e-3


def test_other_sizes_than_those_of_the_data_have_the_same_parameters():
  graph, params = shaped(remat='full', num_single_layers=5)
  call = functools.partial(run, graph)
  for image, text in (((2, 10, 3), (1, 7)), ((8, 8, 3), (9, 7))):
    x, *rest = inputs(image=image, text=text)
    assert jax.eval_shape(call, params, x, *rest).shape == x.shape


@pytest.mark.parametrize('depths', [(0, 2), (2, 0)])
def test_either_kind_of_block_may_be_missing(depths):
  double, single = depths
  graph, params = shaped(num_layers=double, num_single_layers=single)
  x, *rest = inputs()
  u = jax.eval_shape(functools.partial(run, graph), params, x, *rest)
  assert u.shape == x.shape
  assert ('double' in params) == bool(double)


@pytest.mark.slow
def test_a_label_and_the_guidance_of_a_student_have_no_effect_at_first():
  spec = DataSpec(IMAGE, {**COND, 'label': Condition((), 'int32', 3)})
  _, params = shaped(spec, scalars=('guidance',))
  assert {'label', 'scalars'} <= set(params)
  x, t, s, cond = inputs()
  graph, params = trained(scalars=('guidance',))
  zero = changed(
    params, lambda path, w: 0 * w if path[:1] == ('scalars',) else w
  )
  told = {**cond, 'guidance': jnp.array([1.0, 2.0])}
  np.testing.assert_array_equal(run(graph, zero, x, t, s, told), velocity())
  start = nnx.state(make(scalars=('guidance',)).scalars)
  assert not np.any(start['of']['guidance']['second']['kernel'].get_value())


WRONG = [
  ({'patch_size': 2}, 'patch_size = 2 must be 1: it does not count the'),
  (
    {'in_channels': 64},
    'in_channels = 64 must be 12, of 2 x 2 latents of',
  ),
  ({'out_channels': 16}, 'out_channels = 16 must be 12, of 2 x 2 latents of 3'),
  (
    {'joint_attention_dim': 4096},
    "joint_attention_dim = 4096 must be 7, as 'text' of the data has the shape",
  ),
  ({'pooled_projection_dim': 768}, 'pooled_projection_dim = 768 must be 9, as'),
  ({'num_layers': -1}, 'num_layers = -1 must be at least 0'),
  (
    {'num_layers': 0, 'num_single_layers': 0},
    'num_layers = 0 must be at least 1 without single layers',
  ),
  ({'num_attention_heads': 0}, 'num_attention_heads = 0 must be at least 1'),
  (
    {'axes_dims_rope': (16, 56, 56)},
    'axes_dims_rope = (16, 56, 56) must sum to attention_head_dim = 8; its sum '
    'is 128',
  ),
  (
    {'axes_dims_rope': (3, 3, 2)},
    'axes_dims_rope = (3, 3, 2) must be three',
  ),
  (
    {'axes_dims_rope': (4, 4)},
    'axes_dims_rope = (4, 4) must be three',
  ),
  ({'distilled_guidance': 1.0}, 'distilled_guidance = 1.0 has no effect with '),
  (
    {'distilled_guidance': None, 'guidance_embeds': True},
    'distilled_guidance = None must be a number, such as 3.5: the data have no',
  ),
  (
    {'distilled_guidance': np.inf, 'guidance_embeds': True},
    'distilled_guidance = inf must be finite',
  ),
]


@pytest.mark.parametrize(('options', 'message'), WRONG)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    shaped(**options)


DATA = [
  ((5, 4, 3), COND, 'a FLUX takes latents [h, w, c] with even h and w'),
  ((4,), COND, 'a FLUX takes latents [h, w, c] with even h and w'),
  (
    IMAGE,
    {'text': COND['text']},
    "a FLUX must have the condition 'pooled' [d], and the data are [6, 4, 3] w",
  ),
  (
    IMAGE,
    {'pooled': COND['pooled']},
    "a FLUX must have the condition 'text' [n, d], and the data are",
  ),
  (
    IMAGE,
    {**COND, 'tokens': Condition((4,), 'int32', 3)},
    "flux takes no condition 'tokens'; it takes 'label', 'text', 'pooled'",
  ),
  (
    IMAGE,
    {**COND, 'distilled_guidance': Condition()},
    "flux takes no condition 'distilled_guidance'; it takes",
  ),
  (
    IMAGE,
    {**COND, 'control': Condition((3, 4, 3))},
    "condition 'control' has shape [3, 4, 3]; it must be [6, 4, k]",
  ),
  (
    IMAGE,
    {**COND, 'mask': Condition((4,), 'bool', False)},
    "condition 'mask' has shape [4]; it must be [n] of 'text' [n, d]",
  ),
]


@pytest.mark.parametrize(('shape', 'cond', 'message'), DATA)
def test_data_that_it_does_not_take_are_refused(shape, cond, message):
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    shaped(DataSpec(shape, cond))


def test_the_guidance_of_an_example_is_a_number():
  spec = DataSpec(IMAGE, {**COND, 'distilled_guidance': Condition((2,))})
  with pytest.raises(ValueError, match="'distilled_guidance' has shape .2."):
    shaped(spec, guidance_embeds=True)
  one = DataSpec(IMAGE, {**COND, 'distilled_guidance': Condition()})
  shaped(one, guidance_embeds=True, distilled_guidance=None)
