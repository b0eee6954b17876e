"""Folders of diffusers, read tensor by tensor, and those that are refused."""

import json
import re

import numpy as np
import pytest
from convert import tiny_folders

from flowdistill.convert import CONVERTERS
from flowdistill.convert.diffusers_folder import (
  is_folder_of_diffusers,
  open_folder,
)
from flowdistill.convert.reading import plan_reading

NAME = 'diffusion_pytorch_model'
RULES = CONVERTERS['flux'].make_rules


@pytest.fixture(scope='module')
def shapes():
  return tiny_folders.shapes('flux')


@pytest.fixture(scope='module')
def arrays():
  return tiny_folders.tensors('flux')


def planned(folder, shapes):
  return plan_reading(folder, shapes, lambda single: RULES(single, 0))


@pytest.mark.parametrize('parts', [1, 3])
@pytest.mark.parametrize('dtype', [np.float32, np.float16])
def test_it_is_read_as_by_the_rules(tmp_path, shapes, arrays, parts, dtype):
  arrays = {n: x.astype(dtype) for n, x in arrays.items()}
  tiny_folders.save(tmp_path, tiny_folders.FLUX, arrays, parts)
  folder = open_folder(tmp_path)
  assert folder.network == 'flux'
  assert folder.options['guidance_embeds'] is True
  assert '_class_name' not in folder.options
  reading = planned(folder, shapes)
  wanted = CONVERTERS['flux'].from_torch(arrays, shapes)
  assert wanted.keys() == shapes.keys()
  for path, array in wanted.items():
    found = reading.array(path, np.dtype(np.float32))
    np.testing.assert_array_equal(found, array)


def read_all(folder, shapes):
  reading = planned(open_folder(folder), shapes)
  for path in shapes:
    reading.array(path, np.dtype(np.float32))


def rewrite(file, change):
  data = json.loads(file.read_text())
  change(data)
  file.write_text(json.dumps(data))


FIRST, SECOND = (f'{NAME}-0000{i}-of-00002.safetensors' for i in (1, 2))
INDEX = f'{NAME}.safetensors.index.json'
CHANGES = {
  'a missing shard': (
    lambda f: (f / SECOND).unlink(),
    f'{INDEX} names {SECOND}, and there is no such file',
  ),
  'a shard that is cut short': (
    lambda f: (f / FIRST).write_bytes((f / FIRST).read_bytes()[:-5]),
    f'{FIRST} is cut short or damaged',
  ),
  'a shard of another kind': (
    lambda f: (f / FIRST).write_bytes(b'\x80\x02}q\x00.'),
    f'{FIRST} is a bare pickle, and must be .safetensors',
  ),
  'a tensor that the index lacks': (
    lambda f: rewrite(
      f / INDEX, lambda d: d['weight_map'].pop('proj_out.bias')
    ),
    'do not agree on proj_out.bias',
  ),
  'a tensor that no shard has': (
    lambda f: rewrite(f / INDEX, lambda d: d['weight_map'].update(new=FIRST)),
    f'{INDEX} do not agree on new',
  ),
  'a file elsewhere': (
    lambda f: rewrite(
      f / INDEX, lambda d: d['weight_map'].update(new='../x.safetensors')
    ),
    f'{INDEX} must have a weight_map of tensors to names of files',
  ),
  'another class': (
    lambda f: rewrite(
      f / 'config.json', lambda d: d.update(_class_name='UNet2DModel')
    ),
    "is of the class 'UNet2DModel'; those that are read are FluxTransformer2D",
  ),
  'more layers than there are tensors': (
    lambda f: rewrite(f / 'config.json', lambda d: d.update(num_layers=10**6)),
    'config.json: num_layers = 1000000 must be at most',
  ),
  'a class that is no name': (
    lambda f: rewrite(f / 'config.json', lambda d: d.update(_class_name=[])),
    'is of the class []; those that are read are FluxTransformer2D',
  ),
  'the name of a file that no folder can have': (
    lambda f: rewrite(
      f / INDEX, lambda d: d['weight_map'].update(new='x' * 5000)
    ),
    f'{INDEX} must have a weight_map of tensors to names of files',
  ),
  'no config': (
    lambda f: (f / 'config.json').unlink(),
    'config.json cannot be read: No such file',
  ),
  'a config that is no JSON': (
    lambda f: (f / 'config.json').write_text('{'),
    'config.json is no JSON',
  ),
  'no index': (
    lambda f: (f / INDEX).unlink(),
    f'must have one {NAME}*.safetensors, or {INDEX}; it has {FIRST}, {SECOND}',
  ),
}


def test_what_is_nested_too_deeply_is_no_folder_of_diffusers(tmp_path):
  (tmp_path / 'config.json').write_text('[' * 200_000)
  assert not is_folder_of_diffusers(tmp_path)
  with pytest.raises(ValueError, match=r'config\.json is no JSON: maximum rec'):
    open_folder(tmp_path)


@pytest.mark.parametrize('case', CHANGES)
def test_a_damaged_folder_is_named(tmp_path, shapes, arrays, case):
  tiny_folders.save(tmp_path, tiny_folders.FLUX, arrays, 2)
  change, message = CHANGES[case]
  change(tmp_path)
  with pytest.raises(ValueError, match=re.escape(message)):
    read_all(tmp_path, shapes)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'a.b': np.ones(1)}, 'a.b: these tensors are not used by the network$'),
    (
      {'proj_out.bias': None, 'x_embedder.bias': None},
      'proj_out.bias, x_embedder.bias: these tensors are missing$',
    ),
    (
      {'proj_out.bias': np.ones(11, np.float32)},
      r'proj_out.bias has the shape \[11\]; for this network it must be \[12\]',
    ),
    (
      {'proj_out.bias': np.ones(12, np.int8)},
      'proj_out.bias has the type I8; weights must be one of F64, F32, F16, B',
    ),
    (
      {'proj_out.bias': np.full(12, np.nan, np.float32)},
      'proj_out.bias has numbers that are not finite$',
    ),
  ],
)
def test_a_tensor_that_does_not_fit_is_named(
  tmp_path, shapes, arrays, changes, message
):
  changed = {n: x for n, x in (arrays | changes).items() if x is not None}
  tiny_folders.save(tmp_path, tiny_folders.FLUX, changed)
  with pytest.raises(ValueError, match=message):
    read_all(tmp_path, shapes)
