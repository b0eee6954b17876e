"""Files of PyTorch: their arrays are read, and nothing in them is run."""

import argparse
import collections
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from flowdistill.convert.arrays import read_chosen

NUMBERS = np.arange(12, dtype=np.float32)


class Named:
  """Pickles as a call of `torch._utils.<name>` with some arguments."""

  def __init__(self, call, *arguments):
    self.call, self.arguments = call, arguments

  def __reduce__(self):
    return self.call, self.arguments


class Outside:
  """Pickles as a persistent id."""

  def __init__(self, key):
    self.key = key


class Saver(pickle.Pickler):
  """Writes what `torch.save` does, without PyTorch."""

  def persistent_id(self, value):
    if isinstance(value, Outside):
      return value.key
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
  one = read_chosen(tmp_path / 'x.pth', lambda names: names[1:2])
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
  with pytest.raises(ValueError, match='as a bare pickle: it names .*system'):
    everything(tmp_path / 'x.pth')
  assert not harm.exists()


@pytest.mark.parametrize(
  ('shape', 'strides', 'offset', 'key', 'message'),
  [
    ((3, 4), (4, 1), 1, '0', 'a has the shape .* exceeds the 12 numbers'),
    ((13,), (0,), 0, '0', r'a has the shape \[13\].* exceeds the 12 numbers'),
    ((2,), (2**62,), 0, '0', 'exceeds the 12 numbers'),
    ((2**62, 2**62), (0, 0), 0, '0', 'exceeds the 12 numbers'),
    ((2,), (-1,), 5, '0', 'an impossible shape'),
    ((2,), (2**70,), 5, '0', 'an impossible shape'),
    ((1,) * 33, (1,) * 33, 5, '0', 'a shape that is none'),
    ((2,), (1,), -1, '0', 'impossible'),
    ((2,), (1, 1), 0, '0', 'impossible'),
    ((2,), (1,), 0, '../../x', 'no entry archive/data/../../x'),
    ((2.5,), (1,), 0, '0', 'impossible shape'),
    (2, 1, 0, '0', 'shape that is none'),
    (None, None, 0, '0', 'shape that is none'),
    ((2,), (1,), None, '0', 'without a shape'),
  ],
)
def test_a_tensor_that_is_none_raises(
  tmp_path, torch_names, shape, strides, offset, key, message
):
  tree = {'a': tensor(torch_names, shape, strides, offset, key)}
  with pytest.raises(ValueError, match=message):
    everything(save(tmp_path / 'x.pth', tree))


@pytest.mark.parametrize(
  'storage',
  [
    (),
    ('storage',),
    ('module', 'x', '0', 'cpu', 12),
    ('storage', 'x', '0', 'cpu', 12),
    ('storage', None, ('0',), 'cpu', 12),
    ('storage', None, '0', 'cpu', '12'),
    ('storage', None, '0', 'cpu', -1),
    ('storage', None, '0', 'cpu', 2**70),
    ('storage', None, '0', 'cpu', 12, ('v', 8, 8)),
    ('storage', None, '0', 'cpu', 12, 'v'),
    ('storage', None, '0', 'cpu', 12, None, None),
  ],
)
def test_an_id_of_no_storage_raises(tmp_path, torch_names, storage):
  kind = torch_names[0].FloatStorage
  storage = tuple(
    kind if x is None and i == 1 else x for i, x in enumerate(storage)
  )
  rest = (0, (2,), (1,), False, collections.OrderedDict())
  named = Named(torch_names[1]._rebuild_tensor_v2, Outside(storage), *rest)
  with pytest.raises(ValueError, match='not a storage|impossible view'):
    everything(save(tmp_path / 'x.pth', {'a': named}))


def test_archives_that_are_none_raise(tmp_path, torch_names):
  path, tree = tmp_path / 'x.pth', {'a': tensor(torch_names, (2,), (1,))}
  for options, message in (
    ({'compression': zipfile.ZIP_DEFLATED}, 'is compressed'),
    ({'byteorder': b'big'}, 'little-endian'),
    ({'data/0': b'123'}, 'a is in a storage of 3 bytes, which is too short'),
    ({'more/data.pkl': b''}, 'several data.pkl'),
    ({'constants.pkl': b''}, 'TorchScript archive'),
  ):
    with pytest.raises(ValueError, match=message):
      everything(save(path, tree, **options))
  whole = save(path, tree).read_bytes()
  for end in (len(whole) // 2, len(whole) - 1, 30, 4):
    path.write_bytes(whole[:end])
    with pytest.raises(ValueError, match='x.pth is a zip archive that is cut'):
      everything(path)


def test_a_flipped_bit_is_found(tmp_path, torch_names):
  path = save(tmp_path / 'x.pth', {'a': tensor(torch_names, (2,), (1,))})
  whole = path.read_bytes()
  at = whole.index(NUMBERS.tobytes())
  path.write_bytes(whole[:at] + b'\x01' + whole[at + 1 :])
  with pytest.raises(ValueError, match='Bad CRC-32 for file .archive/data/0'):
    everything(path)


def test_a_tree_that_grows_when_it_is_read_raises(tmp_path, torch_names):
  bomb = {'a': tensor(torch_names, (2,), (1,))}
  for _ in range(7):
    bomb = [bomb] * 100
  with pytest.raises(ValueError, match='more than 8 levels or 250000 nodes'):
    everything(save(tmp_path / 'x.pth', bomb))
  endless = []
  endless.append(endless)
  with pytest.raises(ValueError, match='more than 8 levels'):
    everything(save(tmp_path / 'x.pth', endless))


def legacy(path, tree, keys=('0',), sizes=None, system=None, version=1001):
  """A file of PyTorch before 1.6, without PyTorch."""
  system = system or {'protocol_version': 1001, 'little_endian': True}
  with path.open('wb') as file:
    for each in (0x1950A86A20F9469CFC6C, version, system):
      pickle.dump(each, file, protocol=2)
    Saver(file, protocol=2).dump(tree)
    pickle.dump(list(keys), file, protocol=2)
    for size in sizes or [12] * len(keys):
      file.write(size.to_bytes(8, 'little'))
      file.write(NUMBERS.tobytes()[: size * 4])
  return path


def test_files_of_pytorch_before_1_6_are_read(tmp_path, torch_names):
  kind, more = torch_names[0].FloatStorage, (False, collections.OrderedDict())
  part = ('storage', kind, '0', 'cpu', 12, ('7', 4, 6))
  tree = {
    'a': tensor(torch_names, (3, 4), (4, 1)),
    'b': Named(torch_names[1]._rebuild_tensor_v2, part, 1, (2,), (2,), *more),
  }
  found = everything(legacy(tmp_path / 'x.pth', tree))
  np.testing.assert_array_equal(found['a'], NUMBERS.reshape(3, 4))
  np.testing.assert_array_equal(found['b'], [5, 7])


def test_legacy_files_that_are_none_raise(tmp_path, torch_names):
  path, tree = tmp_path / 'x.pth', {'a': tensor(torch_names, (2,), (1,))}
  for options, message in (
    ({'system': {'little_endian': False}}, 'not little-endian'),
    ({'version': 1000}, 'its version of the format is not 1001'),
    ({'keys': ['1']}, "list of storages has an impossible '1'"),
    ({'keys': ['0', '0']}, 'list of storages has an impossible'),
    ({'keys': [], 'sizes': [12]}, 'a it has no storage 0|no storage 0'),
    ({'keys': [['0']]}, 'no list of its storages'),
    ({'sizes': [11]}, 'storage 0 has 11 numbers.* must have 12'),
    ({'sizes': [2**63]}, 'storage 0 has'),
  ):
    with pytest.raises(ValueError, match=rf'x\.pth .*({message})'):
      everything(legacy(path, tree, **options))
  whole = legacy(path, tree).read_bytes()
  for end in range(30, len(whole), 7):
    path.write_bytes(whole[:end])
    with pytest.raises(ValueError, match=r'x\.pth '):
      everything(path)
  path.write_bytes(whole[:-1])
  with pytest.raises(ValueError, match='cut short: storage 0 exceeds'):
    everything(path)


def test_what_pytorch_saves_is_read_in_every_format(tmp_path):
  torch = pytest.importorskip('torch')
  matrix = torch.arange(12.0).reshape(3, 4)
  rest = [
    *(torch.Size([1, 2]), torch.float32, torch.device('cpu'), {1, 2}, 1j),
    *(np.float64(3), np.arange(3), np.dtype('f4'), bytearray(b'x'), b'bytes'),
    *(collections.Counter('ab'), collections.defaultdict(list, q=matrix)),
    *(argparse.Namespace(a=1), pathlib.Path('x'), frozenset([1]), range(3)),
    *(slice(1, 2), torch.bfloat16, torch.strided, torch.tensor(1).item()),
  ]
  state = {
    'a': matrix,
    'view': matrix.view(-1)[3:7],
    'turned': torch.nn.Parameter(matrix.T[1:3]),
    'rest': rest,
    'meta': {(1, 2): matrix, None: 3},
    'small': matrix.to(torch.float8_e5m2),
    'empty': torch.zeros(0, 3),
  }
  for zipped in (True, False):
    for protocol in (2, 3, 4, 5):
      torch.save(
        state,
        tmp_path / 'x.pth',
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
      )
      found = read_chosen(
        tmp_path / 'x.pth', lambda names: [n for n in names if n != 'rest.6']
      )
      assert list(found) == [
        *('a', 'view', 'turned', 'rest.11.q', 'small', 'empty')
      ]
      for name in ('a', 'view', 'turned', 'empty'):
        np.testing.assert_array_equal(found[name], state[name].detach())
      small = state['small'].float()
      np.testing.assert_array_equal(found['small'].astype('f4'), small)


def test_tensors_of_other_kinds_are_refused_by_name(tmp_path):
  torch = pytest.importorskip('torch')
  a = torch.ones(2, 3)
  for tensor, message in (
    (a.to_sparse(), 'b is a sparse tensor'),
    (a.to('meta'), 'b is a meta tensor'),
    (torch.imag(torch.complex(a, a).conj()), 'b is a tensor with flags'),
    (np.ones(3), 'b is a NumPy array in a pickle'),
    (a.expand(4, 2, 3), 'b has the shape .*exceeds the 6 numbers'),
    (a.to(torch.int8), 'b has the type int8'),
    (torch.complex(a, a), 'b has the type complex64'),
  ):
    for zipped in (True, False):
      torch.save(
        {'a': a, 'b': tensor},
        tmp_path / 'x.pth',
        _use_new_zipfile_serialization=zipped,
      )
      assert read_chosen(tmp_path / 'x.pth', lambda names: names[:1])['a'].all()
      with pytest.raises(ValueError, match=message):
        read_chosen(tmp_path / 'x.pth', lambda names: names[1:])


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
