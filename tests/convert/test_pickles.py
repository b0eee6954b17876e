"""Files of PyTorch: their arrays are read, and nothing in them is run."""

import collections
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from flowdistill.convert.arrays import read_arrays, read_chosen

NUMBERS = np.arange(12, dtype=np.float32)


class Named:
  """Pickles as a call of `torch._utils.<name>` with some arguments."""

  def __init__(self, call, *arguments):
    self.call, self.arguments = call, arguments

  def __reduce__(self):
    return self.call, self.arguments


class Saver(pickle.Pickler):
  """Writes what `torch.save` does, without PyTorch."""

  def persistent_id(self, value):
    if isinstance(value, tuple) and value[:1] == ('storage',):
      return value
    return None


def imitation(name, module='torch._utils'):
  """An object that pickles as the name of a function of PyTorch."""

  def function(*_):
    raise AssertionError('it is only named')

  function.__module__, function.__qualname__ = module, name
  function.__name__ = name
  return function


@pytest.fixture
def torch_names(monkeypatch):
  """PyTorch's names, which pickle looks up before it writes them."""
  torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
  for name in ('FloatStorage', 'BFloat16Storage', 'LongStorage'):
    setattr(torch, name, imitation(name, 'torch'))
  for name in ('_rebuild_tensor_v2', '_rebuild_parameter', '_rebuild_other'):
    setattr(utils, name, imitation(name))
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'torch._utils', utils)
  return torch, utils


def tensor(names, shape, strides, offset=0, key='0', kind='FloatStorage'):
  torch, utils = names
  storage = ('storage', getattr(torch, kind), key, 'cpu', 12)
  rest = (offset, shape, strides, False, collections.OrderedDict())
  return Named(utils._rebuild_tensor_v2, storage, *rest)


def save(path, tree, compression=zipfile.ZIP_STORED, **entries):
  with zipfile.ZipFile(path, 'w', compression) as archive:
    with archive.open('archive/data.pkl', 'w') as file:
      Saver(file, protocol=2).dump(tree)
    entries = {'byteorder': b'little', 'data/0': NUMBERS.tobytes()} | entries
    for name, data in entries.items():
      archive.writestr(f'archive/{name}', data)
  return path


def everything(path):
  return read_chosen(path, lambda names: names)


def test_arrays_of_a_tree_by_their_names(tmp_path, torch_names):
  whole = tensor(torch_names, (3, 4), (4, 1))
  turned = tensor(torch_names, (2, 3), (1, 4), offset=1)
  parameter = Named(torch_names[1]._rebuild_parameter, turned, True, {})
  tree = {
    'model': collections.OrderedDict({'module.a': whole, 'module.b': turned}),
    'ema': {'decay': 0.5, 'shadow_params': [whole, parameter]},
    'step': 3,
  }
  found = everything(save(tmp_path / 'x.pth', tree))
  a = NUMBERS.reshape(3, 4)
  expected = {
    'model.module.a': a,
    'model.module.b': a.T[1:3],
    'ema.shadow_params.0': a,
    'ema.shadow_params.1': a.T[1:3],
  }
  assert list(found) == list(expected)
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == np.float32
  one = read_arrays(tmp_path / 'x.pth', ['model.module.b', 'no'])
  assert list(one) == ['model.module.b']


def test_bfloat16_and_scalars(tmp_path, torch_names):
  halves = tensor(torch_names, (12,), (1,), kind='BFloat16Storage')
  scalar = tensor(torch_names, (), (), offset=5)
  data = (NUMBERS.view(np.uint32) >> 16).astype(np.uint16).tobytes()
  path = save(tmp_path / 'x.pt', {'h': halves}, **{'data/0': data})
  np.testing.assert_array_equal(everything(path)['h'], NUMBERS)
  path = save(tmp_path / 'x.pt', {'s': scalar})
  assert everything(path)['s'] == 5


@pytest.mark.parametrize(
  ('call', 'named'),
  [
    (os.system, 'system'),
    (eval, 'eval'),
    (pathlib.Path.touch, r'Path\.touch|getattr'),
  ],
)
def test_a_name_that_no_tensor_needs_ends_the_reading(tmp_path, call, named):
  harm = tmp_path / 'harm'
  argument = {
    os.system: f'touch {harm}',
    eval: f'open({str(harm)!r}, "w")',
  }.get(call, harm)
  path = save(tmp_path / 'x.pth', {'a': [Named(call, argument)]})
  with pytest.raises(ValueError, match=rf'it names .*{named}.*is not exec'):
    everything(path)
  assert not harm.exists()


def test_other_functions_of_pytorch_are_not_run_either(tmp_path, torch_names):
  path = save(tmp_path / 'x.pth', Named(torch_names[1]._rebuild_other, 1))
  with pytest.raises(ValueError, match=r'names torch\._utils\._rebuild_other'):
    everything(path)


def test_a_bare_pickle_is_not_opened(tmp_path):
  harm = tmp_path / 'harm'
  bare = pickle.dumps(Named(os.system, f'touch {harm}'))
  (tmp_path / 'x.pth').write_bytes(bare)
  with pytest.raises(ValueError, match='is no .pth file of PyTorch 1.6 or lat'):
    everything(tmp_path / 'x.pth')
  assert not harm.exists()


@pytest.mark.parametrize(
  ('shape', 'strides', 'offset', 'key', 'message'),
  [
    ((3, 4), (4, 1), 1, '0', 'ends at 12 of 12'),
    ((13,), (0,), 0, '0', r'a tensor \(13,\) in 12 numbers'),
    ((2,), (-1,), 5, '0', 'a tensor'),
    ((2,), (1,), -1, '0', 'a tensor'),
    ((2,), (1, 1), 0, '0', 'is longer'),
    ((2,), (1,), 0, '../../x', 'no item named'),
    ((2.5,), (1,), 0, '0', 'no file of tensors'),
    (2, 1, 0, '0', 'no file of tensors'),
  ],
)
def test_a_tensor_that_is_none_raises(
  tmp_path, torch_names, shape, strides, offset, key, message
):
  tree = {'a': tensor(torch_names, shape, strides, offset, key)}
  with pytest.raises(ValueError, match=message):
    everything(save(tmp_path / 'x.pth', tree))


def test_archives_that_are_none_raise(tmp_path, torch_names):
  path, tree = tmp_path / 'x.pth', {'a': tensor(torch_names, (2,), (1,))}
  for options, message in (
    ({'compression': zipfile.ZIP_DEFLATED}, 'is compressed'),
    ({'byteorder': b'big'}, 'little-endian'),
    ({'data/0': b'123'}, 'buffer is smaller'),
    ({'more/data.pkl': b''}, 'too many values'),
  ):
    with pytest.raises(ValueError, match=message):
      everything(save(path, tree, **options))
  whole = save(path, tree).read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r'x\.pth is no'):
    everything(path)


def test_a_tree_that_grows_when_it_is_read_raises(tmp_path, torch_names):
  bomb = {'a': tensor(torch_names, (2,), (1,))}
  for _ in range(7):
    bomb = [bomb] * 100
  with pytest.raises(ValueError, match='more than 8 levels or 1000000'):
    everything(save(tmp_path / 'x.pth', bomb))
  endless = []
  endless.append(endless)
  with pytest.raises(ValueError, match='more than 8 levels'):
    everything(save(tmp_path / 'x.pth', endless))


def test_what_pytorch_saves_is_read(tmp_path):
  torch = pytest.importorskip('torch')
  layer = torch.nn.Linear(3, 4)
  optimizer = torch.optim.Adam(layer.parameters())
  layer(torch.ones(2, 3)).sum().backward()
  optimizer.step()
  state = {
    'optimizer': optimizer.state_dict(),
    'model': layer.state_dict(),
    'ema': {'decay': 0.9, 'num_updates': 1, 'shadow_params': [layer.bias]},
    'half': layer.weight.to(torch.bfloat16).T,
    'step': 5,
  }
  torch.save(state, tmp_path / 'x.pth')
  found = everything(tmp_path / 'x.pth')
  weight = layer.weight.detach()
  np.testing.assert_array_equal(found['model.weight'], weight)
  np.testing.assert_array_equal(
    found['ema.shadow_params.0'], layer.bias.detach()
  )
  half = weight.to(torch.bfloat16).float().T
  np.testing.assert_array_equal(found['half'].astype(np.float32), half)
  moment = optimizer.state_dict()['state'][0]['exp_avg']
  np.testing.assert_array_equal(found['optimizer.state.0.exp_avg'], moment)
