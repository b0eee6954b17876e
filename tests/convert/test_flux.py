"""FLUX weights under the names of diffusers and of the original."""

import functools

import numpy as np
import pytest
from networks.tiny_flux import shaped

from flowdistill.convert import CONVERTERS, flux
from flowdistill.convert.flux_original import from_original, to_original
from flowdistill.training.named_arrays import by_name

RULES = CONVERTERS['flux']
DEEP = {'num_layers': 2, 'num_single_layers': 11}
STUDENT = {
  'target_time': 'scaled_gap', 'sign': True, 'scalars': ('guidance',)
}  # fmt: skip


@functools.cache
def shapes_of(options):
  params = shaped(**dict(options))[1]
  return {path: x.shape for path, x in by_name(params).items()}


def drawn(**options):
  """Their arrays, as random numbers by their names, our shapes, and ours."""
  rng = np.random.default_rng(0)
  shapes = shapes_of(tuple(options.items()))
  ours = {
    path: rng.normal(size=shape).astype(np.float32)
    for path, shape in shapes.items()
  }
  return RULES.to_torch(ours, 8), shapes, ours


def assert_same(found, wanted):
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    assert found[name].shape == array.shape, name
    assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize(
  'options', [DEEP, {'guidance_embeds': True}, STUDENT, {'num_layers': 0}]
)
def test_there_and_back_to_the_bit(options):
  """Of diffusers, of the original, and of an EMA below a prefix."""
  theirs, shapes, ours = drawn(**options)
  assert len(theirs) == len({*theirs})
  assert_same(RULES.from_torch(theirs, shapes), ours)
  original = to_original(theirs)
  assert_same(RULES.from_torch(original, shapes), ours)
  assert_same(from_original(original), theirs)
  assert_same(to_original(from_original(original)), original)
  inside = {f'model.diffusion_model.{n}': x for n, x in original.items()}
  assert_same(RULES.from_torch(inside, shapes), ours)
  both = {**inside, **{f'ema.{n}': 2 * x for n, x in original.items()}}
  assert_same(
    RULES.ema_from_torch(both, shapes), {p: 2 * x for p, x in ours.items()}
  )
  assert not RULES.constants(theirs, shapes)


def test_the_original_has_queries_keys_and_values_in_one():
  theirs, _, ours = drawn(**DEEP)
  original = to_original(theirs)
  rows = original['double_blocks.1.txt_attn.qkv.weight']
  assert rows.shape == (48, 16)
  key = ours['double.each.text.project.key.kernel']
  assert key.shape == (2, 16, 16)
  assert rows[16 + 3, 5] == key[1, 5, 3]
  rows = original['single_blocks.10.linear1.bias']
  assert rows.shape == (3 * 16 + 64,)
  np.testing.assert_array_equal(rows[48:], ours['single.each.up.bias'][10])
  scale = original['double_blocks.0.img_attn.norm.query_norm.scale']
  wanted = ours['double.each.picture.project.query_scale'][0]
  np.testing.assert_array_equal(scale, wanted)


def test_the_original_has_the_shift_of_the_head_first():
  theirs, _, ours = drawn()
  head = to_original(theirs)['final_layer.adaLN_modulation.1.bias']
  scale, shift = np.split(ours['modulation.bias'], 2)
  np.testing.assert_array_equal(head, np.concatenate([shift, scale]))


def test_arrays_of_a_student_have_names_of_their_own():
  """And a file without them leaves them out."""
  theirs, shapes, ours = drawn(**STUDENT)
  published, _, first = drawn()
  own = theirs.keys() - published.keys()
  assert own == {
    *(
      f'time_text_embed_2.timestep_embedder.linear_{i}.{leaf}'
      for i in (1, 2)
      for leaf in ('weight', 'bias')
    ),
    'times.sign',
    *(
      f'scalars.of.guidance.{layer}.{leaf}'
      for layer in ('first', 'second')
      for leaf in ('weight', 'bias')
    ),
  }
  assert_same(RULES.from_torch(published, shapes), first)
  assert RULES.from_torch(published, shapes).keys() < ours.keys()
  with pytest.raises(ValueError, match='have times.sign, and the network has'):
    RULES.from_torch(
      {**published, 'times.sign': theirs['times.sign']},
      {path: array.shape for path, array in first.items()},
    )


BAD = [
  (
    {},
    {'guidance_embeds': True},
    r'^network.guidance_embeds = False must be True: these weights embed a g',
  ),
  (
    {'guidance_embeds': True},
    {},
    r'^network.guidance_embeds = True must be False: .* of FLUX.1-schnell$',
  ),
  ({}, {'num_layers': 2}, 'have transformer_blocks.1.attn.add_k_proj.bias, an'),
  ({'num_single_layers': 2}, {}, 'have no single_transformer_blocks.1.*'),
  (
    {},
    {'num_attention_heads': 3},
    r'ff.net.2.bias of shape \[24\]; for the network it must be \[16\]',
  ),
]


@pytest.mark.parametrize(('ours', 'theirs', 'message'), BAD)
def test_weights_of_another_network_are_refused(ours, theirs, message):
  shapes = drawn(**ours)[1]
  with pytest.raises(ValueError, match=message):
    RULES.from_torch(drawn(**theirs)[0], shapes)


def test_what_cannot_be_one_network_is_named():
  theirs, shapes, _ = drawn()
  original = to_original(theirs)
  name = 'single_blocks.0.linear1.weight'
  for bad in (original[name][:-1], np.float32(1)):
    with pytest.raises(ValueError, match=rf'^{name} of FLUX has the shape \['):
      from_original({name: bad})
  with pytest.raises(ValueError, match=r'x_embedder.weight appears twice'):
    RULES.from_torch({**original, 'x_embedder.weight': np.ones(3)}, shapes)
  query = 'transformer_blocks.0.attn.to_q.weight'
  with pytest.raises(ValueError, match='img_attn.qkv of FLUX needs the weight'):
    to_original({n: x for n, x in theirs.items() if n != query})
  with pytest.raises(ValueError, match='^conv.kernel is no array of a FLUX'):
    flux.make_rules({'conv.kernel': (2, 2)})


def test_other_arrays_of_a_file_are_not_wanted():
  theirs, _, _ = drawn()
  others = ['vae.encoder.conv_in.weight', 'text_encoders.clip_l.x', 'opt.step']
  assert RULES.wanted([*theirs, *others], ema=True) == [*theirs]
