"""Files of LoRA in all dialects, and those that are refused."""

import json
import pickle
import re

import numpy as np
import pytest
from convert.lora_layers import NETWORKS, assert_alike, drawn
from safetensors.numpy import load_file, save_file

from flowdistill.convert.lora import Factors
from flowdistill.convert.lora_files import (
  METADATA,
  read_lora,
  write_diffusers,
  write_kohya,
)

WIDTHS = {'blocks.0.to_q': (6, 4), 'blocks.0.ff.net.2': (4, 8)}
ENDS = [
  ('.lora_A.weight', '.lora_B.weight'),
  ('.lora_A.default.weight', '.lora_B.default.weight'),
  ('.lora_down.weight', '.lora_up.weight'),
  ('.lora.down.weight', '.lora.up.weight'),
  ('_lora.down.weight', '_lora.up.weight'),
]
PREFIXES = [
  *('', 'transformer.', 'diffusion_model.', 'model.diffusion_model.'),
  *('base_model.model.', 'base_model.model.transformer.'),
]


def named(lora, prefix='transformer.', ends=ENDS[0], *, dots=True, alpha=False):
  """The tensors of a file."""
  arrays = {}
  for name, factors in lora.items():
    module = prefix + (name if dots else name.replace('.', '_'))
    arrays |= {module + ends[0]: factors.a, module + ends[1]: factors.b}
    if alpha:
      arrays[f'{module}.alpha'] = np.float32(factors.alpha)
  return {name: np.asarray(x) for name, x in arrays.items()}


def saved(folder, arrays, metadata=None):
  path = folder / 'lora.safetensors'
  save_file(arrays, path, metadata)
  return path


def without_alpha(lora):
  """As it is where no α is said."""
  return {n: Factors(f.a, f.b, f.rank) for n, f in lora.items()}


@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('ends', ENDS)
@pytest.mark.parametrize('prefix', PREFIXES)
def test_names_with_dots_are_read(tmp_path, prefix, ends, alpha):
  lora = drawn(WIDTHS)
  path = saved(tmp_path, named(lora, prefix, ends, alpha=alpha))
  wanted = lora if alpha else without_alpha(lora)
  assert_alike(read_lora(path, WIDTHS), wanted)


@pytest.mark.parametrize('prefix', ['lora_unet_', 'lora_transformer_', 'lycor'])
def test_names_with_underscores_are_read(tmp_path, prefix):
  prefix = 'lycoris_' if prefix == 'lycor' else prefix
  lora = drawn(WIDTHS)
  arrays = named(lora, prefix, ENDS[2], dots=False, alpha=True)
  assert_alike(read_lora(saved(tmp_path, arrays), WIDTHS), lora)


@pytest.mark.parametrize('network', NETWORKS)
def test_what_is_written_for_diffusers_is_read_with_its_update(
  tmp_path, network
):
  widths, path = NETWORKS[network], tmp_path / 'lora.safetensors'
  lora = drawn(widths)
  lora['proj_out'] = drawn(widths, rank=3)['proj_out']
  write_diffusers(path, lora)
  assert_alike(read_lora(path, widths, network), lora)


@pytest.mark.parametrize('some', [False, True])
@pytest.mark.parametrize('network', NETWORKS)
def test_what_is_written_for_kohya_is_read_with_its_update(
  tmp_path, network, some
):
  """Also where it updates only some of the layers that are fused."""
  widths, path = NETWORKS[network], tmp_path / 'lora.safetensors'
  lora = drawn(widths)
  if some:
    lora = {name: f for name, f in lora.items() if 'to_q' in name}
  write_kohya(path, lora, widths, network)
  found = read_lora(path, widths, network)
  for name in found.keys() - lora.keys():
    assert not found.pop(name).delta.any()
  assert_alike(found, lora)


def test_kohya_has_fused_layers_and_no_others(tmp_path):
  path = tmp_path / 'lora.safetensors'
  write_kohya(path, drawn(NETWORKS['flux']), NETWORKS['flux'], 'flux')
  names = {n.partition('.')[0] for n in load_file(path)}
  assert 'lora_unet_single_blocks_1_linear1' in names
  assert 'lora_unet_double_blocks_0_img_attn_qkv' in names
  assert not any('to_q' in name for name in names)


@pytest.mark.parametrize('prefix', ['diffusion_model.', ''])
def test_fused_layers_by_their_own_names_are_read(tmp_path, prefix):
  widths = NETWORKS['sd3']
  name = f'{prefix}joint_blocks.1.context_block.attn.qkv'
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 12)), rng.normal(size=(36, 2))
  arrays = {f'{name}.lora_A.weight': a, f'{name}.lora_B.weight': b}
  found = read_lora(saved(tmp_path, arrays), widths, 'sd3')
  parts = [f'transformer_blocks.1.attn.add_{x}_proj' for x in 'qkv']
  assert list(found) == parts
  delta = np.concatenate([found[part].delta for part in parts])
  np.testing.assert_allclose(delta, b @ a, rtol=1e-5, atol=1e-6)


CONFIG = {'transformer.r': 2, 'transformer.lora_alpha': 3}


@pytest.mark.parametrize(
  ('more', 'alphas'),
  [
    ({}, [3, 3]),
    ({'transformer.alpha_pattern': {'to_q': 5}}, [5, 3]),
    ({'transformer.alpha_pattern': {'^to_q': 5}}, [3, 3]),
    ({'transformer.alpha_pattern': {'^blocks.0.to_q': 5}}, [5, 3]),
    ({'transformer.alpha_pattern': {'0.ff.net.2': 0.5}}, [3, 0.5]),
  ],
)
@pytest.mark.parametrize('where', ['metadata', 'beside'])
def test_alpha_is_that_of_the_metadata(tmp_path, where, more, alphas):
  """Or of the file that PEFT writes beside."""
  lora, config = drawn(WIDTHS), CONFIG | more
  if where == 'metadata':
    path = saved(tmp_path, named(lora), {METADATA: json.dumps(config)})
  else:
    path = tmp_path / 'adapter_model.safetensors'
    save_file(named(lora, 'base_model.model.'), path)
    plain = {k.removeprefix('transformer.'): v for k, v in config.items()}
    (tmp_path / 'adapter_config.json').write_text(json.dumps(plain))
  found = read_lora(path, WIDTHS)
  assert [found[name].alpha for name in WIDTHS] == alphas


GOOD = named(drawn(WIDTHS), alpha=True)
Q = 'transformer.blocks.0.to_q'


@pytest.mark.parametrize(
  ('changes', 'metadata', 'message'),
  [
    (
      {'transformer.blocks.1.to_q.lora_A.weight': np.ones((2, 4))},
      None,
      'transformer.blocks.1.to_q.lora_A.weight: these tensors are not used',
    ),
    (
      {f'{Q}.dora_scale': np.ones(6), 'lora_te_x.alpha': np.ones(1)},
      None,
      f'lora_te_x.alpha, {Q}.dora_scale: these tensors are not used',
    ),
    (
      {f'{Q}.lora_B.weight': None},
      None,
      f'{Q}.alpha, {Q}.lora_A.weight: these tensors are not used',
    ),
    (
      {f'{Q}.lora_down.weight': np.ones((2, 4))},
      None,
      f'{Q}.lora_A.weight and {Q}.lora_down.weight are the same tensor',
    ),
    (
      named({'blocks.0.to_q': drawn(WIDTHS)['blocks.0.to_q']}, 'lycoris_'),
      None,
      'lycoris_blocks.0.to_q',
    ),
    (
      named(
        {'blocks.0.to_q': drawn(WIDTHS)['blocks.0.to_q']}, 'diffusion_model.'
      ),
      None,
      'blocks.0.to_q is updated twice, by diffusion_model.blocks.0.to_q',
    ),
    (
      {f'{Q}.lora_A.weight': np.ones((5, 4)), f'{Q}.lora_B.weight': (6, 5)},
      None,
      'blocks.0.to_q has rank 5, which must be at least 1 and at most 4',
    ),
    (
      {f'{Q}.lora_A.weight': np.ones((2, 3))},
      None,
      'blocks.0.to_q has A of shape [2, 3] and B of shape [6, 2]; for a layer',
    ),
    (
      {f'{Q}.lora_B.weight': np.ones((6, 3))},
      None,
      f'{Q}.lora_A.weight has shape [2, 4] and {Q}.lora_B.weight [6, 3]; they',
    ),
    ({f'{Q}.alpha': np.ones(2)}, None, f'{Q}.alpha has shape [2]; it must be'),
    ({f'{Q}.alpha': np.array(np.nan)}, None, f'{Q}.alpha has 1 of 1 numbers'),
    ({f'{Q}.alpha': np.array(2)}, None, f'{Q}.alpha has the type int64'),
    ({}, CONFIG, 'its metadata say alpha, and so does transformer.blocks.0.ff'),
    ({}, CONFIG | {'transformer.use_dora': True}, 'it has use_dora'),
    (
      {},
      CONFIG | {'transformer.init_lora_weights': 'pissa_niter_4'},
      "it has init_lora_weights = 'pissa_niter_4', which changes the base",
    ),
    ({}, {'transformer.lora_alpha': 'x'}, "its alpha 'x' is no finite number"),
    ({}, {'lora_alpha': float('nan')}, "its alpha 'nan' is no finite number"),
    ({}, {'lora_alpha': 10**400}, f"its alpha '1{'0' * 38} is no finite"),
    (
      {},
      {'transformer.alpha_pattern': {'(a+)+': 1}},
      "its alpha_pattern has '(a+)+', no name of a layer",
    ),
    ({}, [1], 'the metadata lora_adapter_metadata must be a dict'),
    ({}, '{', 'the metadata lora_adapter_metadata is no JSON'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, metadata, message):
  arrays = GOOD | {
    n: np.ones(x) if isinstance(x, tuple) else x for n, x in changes.items()
  }
  arrays = {n: x for n, x in arrays.items() if x is not None}
  text = metadata if isinstance(metadata, str) else json.dumps(metadata)
  path = saved(tmp_path, arrays, metadata and {METADATA: text})
  with pytest.raises(ValueError, match=f'^{re.escape(f"{path}: {message}")}'):
    read_lora(path, WIDTHS)


def test_a_file_without_tensors_is_named(tmp_path):
  with pytest.raises(ValueError, match='it has no tensors$'):
    read_lora(saved(tmp_path, {}), WIDTHS)


def test_a_pickle_is_refused(tmp_path):
  path = tmp_path / 'lora.safetensors'
  path.write_bytes(pickle.dumps({'a': 1}))
  with pytest.raises(ValueError, match=r'a LoRA must be \.safetensors, or a f'):
    read_lora(path, WIDTHS)


@pytest.mark.parametrize('prefix', ['', 'net.', 'state.net.base_model.model.'])
def test_a_file_of_pytorch_is_read_as_any_other(tmp_path, prefix):
  torch = pytest.importorskip('torch')
  lora = drawn(WIDTHS)
  arrays = named(lora, prefix)
  path, other = tmp_path / 'adapter_model.pth', tmp_path / 'other.pth'
  for file in (path, other):
    torch.save({n: torch.from_numpy(x) for n, x in arrays.items()}, file)
  (tmp_path / 'adapter_config.json').write_text('{"lora_alpha": 3}')
  assert {f.alpha for f in read_lora(path, WIDTHS).values()} == {3}
  found = read_lora(other, WIDTHS)
  assert found.keys() == lora.keys()
  for name, factors in found.items():
    assert factors.alpha == factors.rank  # nothing says another one
    np.testing.assert_array_equal(factors.a, lora[name].a.astype(np.float32))


def test_a_part_that_all_names_share_is_left_out(tmp_path):
  lora = drawn(WIDTHS)
  path = saved(tmp_path, named(lora, 'net.transformer.'))
  assert read_lora(path, WIDTHS).keys() == lora.keys()


def test_a_layer_that_is_not_there_does_not_become_another(tmp_path):
  """Without its first parts it would have the name of one."""
  widths = {'proj_out': (4, 6), 'blocks.0.proj_out': (4, 6)}
  name, x = 'net.blocks.9.proj_out', np.ones((1, 6))
  ends = dict(zip(ENDS[0], (x, np.ones((4, 1))), strict=True))
  path = saved(tmp_path, {f'{name}{end}': x for end, x in ends.items()})
  with pytest.raises(ValueError, match=rf'{re.escape(name)}.* are not used'):
    read_lora(path, widths)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
  path = saved(tmp_path, GOOD)
  path.write_bytes(path.read_bytes()[:-4])
  with pytest.raises(ValueError, match='it is cut short or damaged'):
    read_lora(path, WIDTHS)


def test_kohya_has_layers_of_the_original_alone(tmp_path):
  path, lora = tmp_path / 'lora.safetensors', drawn(NETWORKS['flux'])
  with pytest.raises(ValueError, match=r"^network = 'sit' must be one of 'flu"):
    write_kohya(path, lora, NETWORKS['flux'], 'sit')
  second = 'time_text_embed_2.timestep_embedder.linear_1'
  widths = NETWORKS['flux'] | {second: (12, 256)}
  with pytest.raises(ValueError, match=f'^{re.escape(second)}: the original'):
    write_kohya(path, drawn(widths), widths, 'flux')
