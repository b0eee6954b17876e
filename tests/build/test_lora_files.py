"""Factors of our networks in files, and back."""

import re

import numpy as np
import pytest
from convert import tiny_folders
from safetensors.numpy import load_file

from flowdistill.build.lora_files import (
  DIALECTS,
  read_lora_file,
  write_lora_file,
)

RNG = np.random.default_rng(0)
LAYERS = {
  'flux': [
    *('double.each.picture.project.query', 'double.each.text.up'),
    *('single.each.up', 'single.each.project.value', 'last'),
  ],
  'sd3': ['blocks_0.each.picture.second.out', 'blocks_1.each.text.down'],
}
SCALE = 1.5


def drawn(network, rank=2):
  """Our arrays, with factors of some layers."""
  arrays = {n: np.zeros(s) for n, s in tiny_folders.shapes(network).items()}
  for layer in LAYERS[network]:
    *lead, n_in, n_out = arrays[f'{layer}.kernel'].shape
    for name, shape in (('a', (n_in, rank)), ('b', (rank, n_out))):
      factor = RNG.normal(size=(*lead, *shape)).astype(np.float32)
      arrays[f'{layer}.lora_{name}'] = factor
  return arrays


def factors(arrays):
  return {n: x for n, x in arrays.items() if '.lora_' in n}


@pytest.mark.parametrize('dialect', DIALECTS)
@pytest.mark.parametrize('network', LAYERS)
def test_factors_are_back_in_their_places(tmp_path, network, dialect):
  """Kohya's file also updates, by 0, what it has fused with them."""
  arrays, path = drawn(network), tmp_path / 'lora.safetensors'
  write_lora_file(path, network, arrays, SCALE, dialect)
  shapes = {n: x.shape for n, x in arrays.items()}
  if dialect == 'kohya' and network == 'flux':
    with pytest.raises(ValueError, match='these layers are not adapted by bot'):
      read_lora_file(path, network, shapes, SCALE)
    return
  found = read_lora_file(path, network, shapes, SCALE)
  wanted = factors(arrays)
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_the_update_in_the_file_is_that_of_the_kernel(tmp_path):
  arrays, path = drawn('flux'), tmp_path / 'lora.safetensors'
  write_lora_file(path, 'flux', arrays, SCALE)
  file = load_file(path)
  layer = 'transformer.single_transformer_blocks.1.proj_mlp'
  a, b = (file[f'{layer}.lora_{x}.weight'] for x in 'AB')
  ours = [arrays[f'single.each.up.lora_{x}'][1] for x in 'ab']
  np.testing.assert_allclose((b @ a).T, SCALE * ours[0] @ ours[1], atol=1e-5)


def test_what_does_not_fit_the_network_is_named(tmp_path):
  arrays, path = drawn('sd3'), tmp_path / 'lora.safetensors'
  write_lora_file(path, 'sd3', arrays, SCALE)
  other = {n: x.shape for n, x in drawn('sd3', rank=3).items()}
  message = f'{path}: transformer_blocks.0.attn2.to_out.0 has rank 2, and that'
  with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
    read_lora_file(path, 'sd3', other, SCALE)
  down = 'blocks_1.each.text.down.lora'
  less = {n: x.shape for n, x in arrays.items() if not n.startswith(down)}
  with pytest.raises(ValueError, match='these layers are not adapted by both'):
    read_lora_file(path, 'sd3', less, SCALE)
  with pytest.raises(ValueError, match="^dialect = 'koya' must be one; did"):
    write_lora_file(path, 'sd3', arrays, SCALE, 'koya')
  plain = {n: x for n, x in arrays.items() if '.lora_' not in n}
  with pytest.raises(ValueError, match='^the network has no factors of a LoRA'):
    write_lora_file(path, 'sd3', plain, SCALE)
