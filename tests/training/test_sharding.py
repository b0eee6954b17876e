"""The mesh of eight simulated devices, and batches that do not divide."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.training.sharding import (
  check_batch_size,
  global_batch,
  make_mesh,
  replicate,
)

EIGHT_DEVICES = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from flowdistill.training import sharding
from flowdistill.training.checkpoint import Checkpoints, restore

mesh = sharding.make_mesh()
assert mesh.shape == {'data': 8} and mesh.axis_types == (AxisType.Auto,)

local = {'x0': np.arange(48.0).reshape(16, 3), 'cond': {'label': np.arange(16)}}
batch = sharding.global_batch(mesh, local)
jax.tree.map(np.testing.assert_array_equal, batch, local)
for array in jax.tree.leaves(batch):
  assert array.sharding == sharding.batch_sharding(mesh)
  for shard in array.addressable_shards:
    assert len(shard.data) == 2
rows = [int(s.data[0]) for s in batch['cond']['label'].addressable_shards]
assert sorted(rows) == list(range(0, 16, 2)), rows

params = sharding.replicate({'w': jnp.arange(6.0).reshape(3, 2)}, mesh)
assert params['w'].sharding == sharding.replicated(mesh)
assert all(s.data.shape == (3, 2) for s in params['w'].addressable_shards)

gradient = jax.jit(jax.grad(lambda p, b: jnp.mean((b['x0'] @ p['w']) ** 2)))
one = gradient(jax.device_get(params), local)
eight = gradient(params, batch)
assert eight['w'].sharding.is_fully_replicated
np.testing.assert_allclose(eight['w'], one['w'], rtol=1e-6)

shapes = jax.eval_shape(lambda: (params, batch))
with Checkpoints(sys.argv[1], keep=1) as checkpoints:
  checkpoints.save(1, (params, batch))
again = restore(sys.argv[1], (params, batch))
assert jax.tree.map(lambda x: x.sharding, again) == jax.tree.map(
  lambda x: x.sharding, (params, batch)
)
on_one = restore(sys.argv[1], shapes)
assert all(len(x.devices()) == 1 for x in jax.tree.leaves(on_one))
for restored in (again, on_one):
  jax.tree.map(np.testing.assert_array_equal, restored, (params, batch))
print('done')
"""


def test_eight_devices(tmp_path):
  flags = '--xla_force_host_platform_device_count=8'
  done = subprocess.run(
    [sys.executable, '-c', EIGHT_DEVICES, str(tmp_path)],
    env={**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'done\n', done.stderr


def test_here():
  mesh = make_mesh()
  local = {'x0': np.ones((jax.device_count(), 2), np.float32)}
  batch = global_batch(mesh, local)
  np.testing.assert_array_equal(batch['x0'], local['x0'])
  assert replicate(batch, mesh)['x0'].sharding.is_fully_replicated


@given(st.integers(1, 300), st.integers(1, 32), st.sampled_from([1, 2, 4]))
def test_the_sizes_that_are_named_are_the_nearest(size, local, processes):
  devices = local * processes
  if size % devices == 0:
    check_batch_size(size, devices, processes)
    return
  with pytest.raises(ValueError, match=f'batch_size {size} ') as caught:
    check_batch_size(size, devices, processes)
  named = str(caught.value).split('such as ')[1].split(' or ')
  below, above = size - size % devices, size - size % devices + devices
  assert [int(n) for n in named] == [n for n in (below, above) if n > 0]
  for n in named:
    check_batch_size(int(n), devices, processes)


def test_the_message():
  with pytest.raises(ValueError, match='multiple of 8, such as 96 or 104$'):
    check_batch_size(100, 8, 1)
  with pytest.raises(ValueError, match='multiple of 8, such as 8$'):
    check_batch_size(0, 8, 1)
