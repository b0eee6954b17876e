"""Transformers in single files, by either names: the same as in a folder."""

import itertools
import re

import numpy as np
import pytest
from convert import tiny_folders
from networks import tiny_flux
from safetensors.numpy import save_file

from flowdistill.convert import CONVERTERS, flux_original, sd3_original
from flowdistill.convert.reading import plan_reading
from flowdistill.convert.saved_network import opened
from flowdistill.convert.single_files import open_file, renamed
from flowdistill.training.named_arrays import by_name

FLUX = {
  **{k: v for k, v in tiny_folders.FLUX.items() if not k.startswith('_')},
  'out_channels': 12,
  'attention_head_dim': 128,
  'num_attention_heads': 1,
  'axes_dims_rope': (16, 56, 56),
}
del FLUX['patch_size']  # which is 1 in all of them
SD3 = {k: v for k, v in tiny_folders.SD3.items() if not k.startswith('_')}
ORIGINAL = {
  'flux': flux_original.to_original,
  'sd3': sd3_original.to_original,
}


def shapes_of(network):
  """Our path -> shape."""
  if network == 'sd3':
    return tiny_folders.shapes('sd3')
  _, params = tiny_flux.shaped(**FLUX)
  return {n: x.shape for n, x in by_name(params).items()}


@pytest.fixture(scope='module', params=['flux', 'sd3'])
def network(request):
  return request.param


@pytest.fixture(scope='module')
def shapes(network):
  return shapes_of(network)


@pytest.fixture(scope='module')
def theirs(network, shapes):
  return tiny_folders.tensors(network, shapes)


def written(path, arrays, prefix=''):
  arrays = {
    f'{prefix}{n}': np.array(x, np.float16, order='C')
    for n, x in arrays.items()
  }
  save_file(arrays, path)
  return path


def planned(network, saved, shapes):
  make_rules = CONVERTERS[network].make_rules
  return plan_reading(saved, shapes, lambda single: make_rules(single, 0))


@pytest.mark.parametrize('prefix', ['', 'model.diffusion_model.'])
@pytest.mark.parametrize('original', [False, True])
def test_its_arrays_and_options(
  tmp_path, network, shapes, theirs, original, prefix
):
  """To the last bit, of queries, keys and values in one tensor, too."""
  arrays = ORIGINAL[network](theirs) if original else theirs
  path = written(tmp_path / 'x.safetensors', arrays, prefix)
  saved = open_file(path)
  assert saved.network == network
  wanted = dict(SD3 if network == 'sd3' else FLUX)
  wanted.pop('sample_size', None)
  assert {k: saved.options[k] for k in wanted} == wanted
  assert saved.options.keys() == wanted.keys()
  reading = planned(network, saved, shapes)
  half = {n: x.astype(np.float16) for n, x in theirs.items()}
  ours = CONVERTERS[network].from_torch(half, shapes)
  for name, array in ours.items():
    found = reading.array(name, np.dtype(np.float32))
    np.testing.assert_array_equal(found, array, err_msg=name)


def test_each_number_is_read_once(tmp_path, network, theirs):
  """The bytes of all tensors are those of the file, none of them twice."""
  path = written(tmp_path / 'x.safetensors', ORIGINAL[network](theirs))
  tensors = open_file(path).tensors
  spans = sorted(span for each in tensors.values() for span in each.spans)
  assert sum(size for _, size in spans) == 2 * sum(
    x.size for x in theirs.values()
  )
  for (first, size), (after, _) in itertools.pairwise(spans):
    assert first + size == after


def test_other_parts_of_a_checkpoint_are_left(tmp_path, network, theirs):
  arrays = {
    **{f'model.diffusion_model.{n}': x for n, x in theirs.items()},
    'first_stage_model.decoder.conv_in.weight': np.ones(3, np.float32),
    'text_encoders.clip_l.weight': np.ones(3, np.uint8),
  }
  arrays['text_encoders.clip_l.position_ids'] = np.arange(3)  # is not read
  path = tmp_path / 'x.safetensors'
  save_file({n: np.array(x, order='C') for n, x in arrays.items()}, path)
  assert len(open_file(path).tensors) == len(theirs)


def test_a_tensor_of_no_known_part_is_named(tmp_path, network, theirs):
  path = tmp_path / 'x.safetensors'
  inside = {f'model.diffusion_model.{n}': x for n, x in theirs.items()}
  written(path, {**inside, 'control.weight': np.ones(3, np.float32)})
  with pytest.raises(
    ValueError, match=r'control\.weight: these tensors are of'
  ):
    open_file(path)


@pytest.mark.parametrize('original', [False, True])
def test_missing_and_unused_tensors_are_named(
  tmp_path, network, shapes, theirs, original
):
  arrays = ORIGINAL[network](theirs) if original else theirs
  path, last = tmp_path / 'x.safetensors', 'final_layer.linear.bias'
  last = last if original else 'proj_out.bias'
  saved = open_file(written(path, {**arrays, 'new.weight': np.ones((2, 2))}))
  with pytest.raises(ValueError, match=r'new\.weight: these tensors are not u'):
    planned(network, saved, shapes)
  less = {n: x for n, x in arrays.items() if n != last}
  saved = open_file(written(path, less))
  with pytest.raises(ValueError, match=r'proj_out\.bias: these tensors are m'):
    planned(network, saved, shapes)


def test_both_names_of_one_tensor_are_refused(tmp_path, network, theirs):
  both = {**theirs, **ORIGINAL[network](theirs)}
  path = written(tmp_path / 'x.safetensors', both)
  with pytest.raises(ValueError, match=r'x\.safetensors: .*(twice|one array)'):
    open_file(path)


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    (
      {'a.weight': np.ones(3)},
      'must have the weights of flux or sd3, .* it has a.weight',
    ),
    ({'img_in.weight': np.ones((4, 4), np.int8)}, 'has the type I8'),
    ({'img_in.weight': np.ones((4, 4))}, '4 channels are not heads of 128'),
    ({'img_in.weight': np.ones(4)}, 'there is no x_embedder.weight with 2 axe'),
    (
      {'x_embedder.proj.weight': np.ones((4, 4, 2, 2))},
      'there is no pos_embed.pos_embed with 3 axes',
    ),
  ],
)
def test_files_of_others_are_refused(tmp_path, arrays, message):
  path = tmp_path / 'x.safetensors'
  save_file(arrays, path)
  with pytest.raises(ValueError, match=f'^{re.escape(str(path))}.*{message}'):
    open_file(path)


def test_a_file_that_is_cut_short_is_refused(tmp_path, network, theirs):
  path = written(tmp_path / 'x.safetensors', theirs)
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(ValueError, match='is cut short or damaged'):
    open_file(path)


def test_a_tensor_of_another_shape_is_named_with_its_origin(
  tmp_path, network, shapes, theirs
):
  """Queries, keys and values of too few inputs."""
  arrays = ORIGINAL[network](theirs)
  name = next(n for n in arrays if n.endswith('attn.qkv.weight'))
  arrays[name] = arrays[name][:, :5]
  saved = open_file(written(tmp_path / 'x.safetensors', arrays))
  with pytest.raises(
    ValueError,
    match=rf'to_[qk]\.weight, of {re.escape(name)}, has the shape \[',
  ):
    planned(network, saved, shapes)


@pytest.mark.parametrize(
  'name', ['transformer_blocks.0.attn.norm_q.weight', 'transformer_blocks_x']
)
@pytest.mark.parametrize('shape', [(), (0,), (2, 0)])
def test_odd_shapes_are_refused(tmp_path, network, shapes, theirs, name, shape):
  odd = {**theirs, name: np.zeros(shape, np.float32)}
  with pytest.raises(ValueError, match=r'x\.safetensors: '):
    planned(
      network, open_file(written(tmp_path / 'x.safetensors', odd)), shapes
    )


def test_rows_that_are_moved_and_joined(tmp_path):
  """Whatever a renaming does along the first axis."""
  x = np.arange(24, dtype=np.float32).reshape(8, 3)
  save_file({'a': x, 'b': x + 100}, tmp_path / 'x.safetensors')

  def rename(arrays):
    one = arrays['a']
    return {'p': np.concatenate([one[6:], one[:2], one[3:4]]), 'q': one[2:3]}

  found = renamed(opened(tmp_path / 'x.safetensors'), rename)
  assert found.keys() == {'p', 'q', 'b'}
  np.testing.assert_array_equal(found['p'].read(), x[[6, 7, 0, 1, 3]])
  np.testing.assert_array_equal(found['q'].read(), x[2:3])
  assert len(found['p'].spans) == 3
