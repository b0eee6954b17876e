"""Snapshots as NVIDIA's persistence writes them, without PyTorch.

Objects pickle as calls of stand-ins with the names of the originals.
"""

import collections
import io
import pickle
import struct
import sys
import types

import numpy as np
from convert.test_pickles import Named, Saver, imitation

KINDS = {'float16': 'HalfStorage', 'float32': 'FloatStorage'}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
BUFFERS = ('freqs', 'phases')
SOURCE = 'raise AssertionError("it must not be run")'


class EasyDict(dict):
  """Of dnnlib."""


class ModuleDict:
  """Of torch.nn; its state is its dict."""


def stand_ins(monkeypatch):
  """Makes the names known to pickle, which looks them up."""
  EasyDict.__module__ = 'dnnlib.util'
  ModuleDict.__module__ = 'torch.nn.modules.container'
  calls = {
    'torch': [imitation(kind, 'torch') for kind in KINDS.values()],
    'torch.storage': [LOADS],
    'torch._utils': [TENSOR, PARAMETER],
    'torch.nn.modules.container': [ModuleDict],
    'torch_utils': [],
    'torch_utils.persistence': [PERSISTENT],
    'dnnlib': [],
    'dnnlib.util': [EasyDict],
  }
  for name, members in calls.items():
    module = types.ModuleType(name)
    for member in members:
      setattr(module, member.__name__, member)
    monkeypatch.setitem(sys.modules, name, module)


LOADS = imitation('_load_from_bytes', 'torch.storage')
TENSOR = imitation('_rebuild_tensor_v2')
PARAMETER = imitation('_rebuild_parameter')
PERSISTENT = imitation('_reconstruct_persistent_obj', 'torch_utils.persistence')


def storage(array, *, count=None, more=b''):
  """The bytes of a flat array, in a file of PyTorch before 1.6."""
  kind = getattr(sys.modules['torch'], KINDS[str(array.dtype)])
  system = {'little_endian': True, 'protocol_version': VERSION}
  key = ('storage', kind, '94', 'cpu', array.size, None)
  file = io.BytesIO()
  for tree in (MAGIC, VERSION, system, key, ['94']):
    Saver(file, protocol=2).dump(tree)
  count = array.size if count is None else count
  return file.getvalue() + struct.pack('<q', count) + array.tobytes() + more


def tensor(array, data=None):
  """A tensor, of its storage or of the bytes of one."""
  loaded = Named(LOADS, storage(array) if data is None else data)
  steps = np.array(array.strides, int) // array.itemsize
  hooks = collections.OrderedDict()
  return Named(
    TENSOR, loaded, 0, array.shape, (*map(int, steps),), False, hooks
  )


def state(parameters, buffers, modules):
  return {
    'training': False,
    '_parameters': {'bias': None, **parameters},
    '_buffers': buffers,
    '_modules': {'none': None, **modules},
  }


def persistent(kind, its_state):
  meta = {'type': 'class', 'version': 6, 'module_src': SOURCE}
  return Named(PERSISTENT, {**meta, 'class_name': kind, 'state': its_state})


def module(arrays, kind='Precond', **options):
  """A module with the arrays of a state dict."""
  parts = collections.defaultdict(dict)
  own = {name: a for name, a in arrays.items() if '.' not in name}
  for name, array in arrays.items():
    if '.' in name:
      first, _, rest = name.partition('.')
      parts[first][rest] = array
  parameters = {
    n: Named(PARAMETER, tensor(a), False, {})
    for n, a in own.items()
    if n not in BUFFERS
  }
  buffers = {n: tensor(a) for n, a in own.items() if n in BUFFERS}
  inside = {n: module(x, n) for n, x in parts.items()}
  its = state(parameters, buffers, inside)
  if kind in ('enc', 'dec'):
    container = ModuleDict()
    container.__dict__ |= its
    return container
  return persistent(kind, {**its, '_init_args': (), '_init_kwargs': options})


def snapshot(arrays, kind='Precond', *, more=None, protocol=4, **options):
  """The bytes of a snapshot with the arrays of its EMA network."""
  encoder = {'vae_name': 'x', 'scale': np.float32([1, 2]), '_init_kwargs': {}}
  tree = EasyDict(
    encoder=persistent('StabilityVAEEncoder', encoder),
    dataset_kwargs=EasyDict(path='x.zip', use_labels=True),
    loss_fn=persistent('EDM2Loss', {'P_mean': -0.4, '_init_kwargs': {}}),
    more=more,
    ema=module(arrays, kind, **options),
  )
  return pickle.dumps(tree, protocol)
