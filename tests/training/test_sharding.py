"""Sharding on eight simulated devices, and the rows of a host."""

import json
import pathlib
import types

import jax
import numpy as np
import pytest
from jobs import hosts

from flowdistill.training.mesh import AXES, make_mesh
from flowdistill.training.sharding import Layout

HERE = pathlib.Path(__file__).parent
EIGHT_DEVICES = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from flowdistill.training.checkpoint import Checkpoints, restore
from flowdistill.training.named_arrays import by_name
from flowdistill.training.sharding import Layout
from flowdistill.training.mesh import make_mesh

layout = Layout(make_mesh({'data': -1, 'fsdp': 2, 'tensor': 2}))
assert layout.mesh.shape == {'data': 2, 'fsdp': 2, 'tensor': 2}
assert layout.mesh.axis_types == (AxisType.Auto,) * 3

local = {'x0': np.arange(48.0).reshape(16, 3), 'cond': {'label': np.arange(16)}}
batch = layout.batch(local)
jax.tree.map(np.testing.assert_array_equal, batch, local)
for array in jax.tree.leaves(batch):
  assert array.sharding == layout.rows
  for shard in array.addressable_shards:
    assert len(shard.data) == 4
rows = [int(s.data[0]) for s in batch['cond']['label'].addressable_shards]
assert sorted(rows) == [0, 0, 4, 4, 8, 8, 12, 12], rows
assert layout.share(16) == (0, 1)

params = {
  'block': {
    'qkv': {'kernel': jnp.arange(64.0 * 192).reshape(64, 192)},
    'out': {'kernel': jnp.arange(64.0 * 64).reshape(64, 64)},
  },
  'label': jnp.arange(3 * 512.0).reshape(3, 512),
  'bias': jnp.arange(64.0),
}
params = jax.device_put(params, layout.shardings(params))
shapes = {
  name: {shard.data.shape for shard in array.addressable_shards}
  for name, array in by_name(params).items()
}
assert shapes == {
  'bias': {(64,)},
  'block.out.kernel': {(32, 32)},
  'block.qkv.kernel': {(32, 96)},
  'label': {(3, 256)},
}, shapes
whole = layout.gather(params)
assert all(x.sharding == layout.replicated for x in jax.tree.leaves(whole))
jax.tree.map(np.testing.assert_array_equal, whole, params)

with Checkpoints(sys.argv[1], keep=1) as checkpoints:
  checkpoints.save(1, params)
for axes in {'data': 8}, {'fsdp': 8, 'data': 1}, {'tensor': 4, 'data': 2}:
  other = Layout(make_mesh(axes))
  again = restore(sys.argv[1], other.abstract(jax.eval_shape(lambda: params)))
  same = jax.tree.map(lambda x: x.sharding, again) == other.shardings(params)
  assert same, axes
  jax.tree.map(np.testing.assert_array_equal, again, params)
on_one = restore(sys.argv[1], jax.eval_shape(lambda: params))
assert all(len(x.devices()) == 1 for x in jax.tree.leaves(on_one))
jax.tree.map(np.testing.assert_array_equal, on_one, params)
print('done')
"""


def test_eight_devices(tmp_path):
  assert hosts.printed(8, '-c', EIGHT_DEVICES, str(tmp_path)) == 'done\n'


def compared(network, objective, *meshes):
  out = hosts.printed(8, str(HERE / 'meshes.py'), network, objective, *meshes)
  return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize(
  'network',
  [
    pytest.param(n, marks=pytest.mark.slow)
    for n in ('scan', 'dit', 'joint', 'conv')
  ],
)
def test_loss_and_gradients_are_those_of_one_device(network):
  """Of guided AYF-EMD, through jax.jvp; 'scan' is a DiT whose blocks are."""
  every, *cut = compared(network, 'ayf_emd', '8x1x1', '1x8x1', '4x2x1', '2x2x2')
  assert every['cut'] == 0
  for found in [every, *cut]:
    assert found['loss'] < 1e-5
    assert found['grads'] < 1e-5
  assert min(found['cut'] for found in cut) >= (1 if network == 'conv' else 10)


@pytest.mark.slow
def test_loss_and_gradients_of_low_rank_factors_are_those_of_one_device():
  """Their base is sharded as any network, and shared with the teacher."""
  meshes = {'2x2x2': 8, '4x2x1': 4}  # without `tensor` one factor of a layer
  for found, cut in zip(
    compared('lora', 'ayf_emd', *meshes), meshes.values(), strict=True
  ):
    assert found['loss'] < 1e-5
    assert found['grads'] < 1e-5
    assert found['cut'] == cut


def test_factors_are_sharded_as_the_kernel_of_their_layer():
  mesh = jax.sharding.AbstractMesh((2, 2, 2), AXES)

  def layer(*kernel, rank=16):
    *stacked, n_in, n_out = kernel
    a, b = (*stacked, n_in, rank), (*stacked, rank, n_out)
    shapes = {'kernel': kernel, 'lora_a': a, 'lora_b': b}
    return {k: jax.ShapeDtypeStruct(v, 'float32') for k, v in shapes.items()}

  tree = {
    'qkv': layer(2, 64, 192),
    'out': layer(64, 64),
    'other': layer(3, 64, 96),
    'few': layer(64, 64, rank=2),
  }
  found = Layout(mesh).shardings({'block': tree})['block']
  cut = jax.tree.map(lambda place: tuple(place.spec), found)
  assert cut == {
    'qkv': {
      'kernel': (None, 'fsdp', 'tensor'),
      'lora_a': (None, 'fsdp', None),
      'lora_b': (None, None, 'tensor'),
    },
    'out': {
      'kernel': ('tensor', 'fsdp'),
      'lora_a': ('tensor', None),
      'lora_b': (None, 'fsdp'),
    },
    'other': {
      'kernel': (None, None, 'fsdp'),
      'lora_a': (None, 'fsdp', None),
      'lora_b': (None, None, 'fsdp'),
    },
    'few': {'kernel': (None, 'fsdp'), 'lora_a': (), 'lora_b': ()},
  }


@pytest.mark.slow
@pytest.mark.parametrize('objective', ['ayf_lmd', 'mean_flow', 'scm', 'tvm'])
@pytest.mark.parametrize('network', ['dit', 'conv'])
def test_every_tangent_is_that_of_one_device(network, objective):
  for found in compared(network, objective, '1x8x1', '4x2x1', '2x2x2'):
    assert found['loss'] < 1e-5
    assert found['grads'] < 1e-5


def test_here():
  layout = Layout(make_mesh())
  local = {'x0': np.ones((jax.device_count(), 2), np.float32)}
  batch = layout.batch(local)
  np.testing.assert_array_equal(batch['x0'], local['x0'])
  assert layout.gather(batch)['x0'].sharding.is_fully_replicated


class Half(Layout):
  """The first of two hosts: the other rows are found by nobody."""

  @property
  def rows(self):
    def places(shape):
      n = shape[0] // 4
      return {'a': (slice(n, 2 * n),), 'b': (slice(0, n),)}

    return types.SimpleNamespace(
      is_fully_addressable=False, addressable_devices_indices_map=places
    )

  def round_up(self, batch_size):
    return -(-batch_size // 4) * 4

  def rows_from(self, n, make):
    return np.concatenate([make(slice(0, n // 4)), make(slice(n // 4, n // 2))])

  def collect(self, array):
    return array


def test_a_host_computes_its_own_rows_at_once():
  layout, seen = Half(make_mesh()), []

  def double(x):
    seen.append(x.tolist())
    return 2 * x

  found = layout.divided(double, np.arange(10.0))  # of 12, of which 6 are ours
  assert seen == [[0, 1, 2, 3, 4, 5]]
  np.testing.assert_array_equal(found, 2 * np.arange(6.0))
  alone = Layout(make_mesh()).divided(double, np.arange(3.0))
  np.testing.assert_array_equal(alone, 2 * np.arange(3.0))
