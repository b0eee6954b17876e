"""Meshes of devices that are not here, and the rows of a batch on them."""

import itertools
import math
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdistill.training.mesh import AXES, arrange, mesh_shape
from flowdistill.training.sharding import Layout


@pytest.mark.parametrize(
  ('axes', 'expected'),
  [
    ({}, None),
    ({'data': -1}, (8, 1, 1)),
    ({'data': -1, 'fsdp': 4}, (2, 4, 1)),
    ({'data': 2, 'fsdp': -1, 'tensor': 2}, (2, 2, 2)),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, (2, 2, 2)),
    ({'data': -1, 'fsdp': 3}, None),
    ({'data': 4, 'fsdp': 4}, None),
  ],
)
def test_the_shape_of_a_mesh(axes, expected):
  if expected is None:
    with pytest.raises(ValueError, match=r'must be 8 device\(s\)'):
      mesh_shape(axes, 8)
  else:
    assert mesh_shape(axes, 8) == expected


def machine(kind, slices, size):
  """Devices as JAX describes them, slice after slice, from the last to first.

  A TPU slice is a square of chips, four to a host; one of GPUs is a host.
  """
  gpu = 'NVIDIA' in kind
  side = math.isqrt(size)
  made = []
  for slice_index, place in itertools.product(range(slices), range(size)):
    x, y = divmod(place, side)
    host = 0 if gpu else (x // 2) * (side // 2) + y // 2
    hosts = 1 if gpu else size // 4
    device = {
      'id': slice_index * size + place,
      'process_index': slice_index * hosts + host,
      'slice_index': slice_index,
      'platform': 'gpu' if gpu else 'tpu',
      'device_kind': kind,
      'coords': (x, y, 0),
      'core_on_chip': 0,
    }
    made.append(types.SimpleNamespace(**device))
  return made[::-1]


KINDS = ['NVIDIA H100 80GB HBM3', 'TPU v5 lite', 'TPU v5', 'TPU v6 lite']


def crossing(grid, axis):
  """How many slices the devices of a row along a mesh axis are in, at most."""
  number = np.vectorize(lambda device: device.slice_index)(grid)
  rows = np.moveaxis(number, AXES.index(axis), -1).reshape(
    -1, grid.shape[AXES.index(axis)]
  )
  return max(len(set(row)) for row in rows)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('slices', 'size', 'shape'),
  [
    (1, 16, (2, 4, 2)),
    (2, 16, (2, 16, 1)),
    (2, 16, (4, 4, 2)),
    (2, 16, (8, 2, 2)),
    (2, 16, (32, 1, 1)),
    (4, 4, (4, 2, 2)),
    (4, 16, (8, 1, 8)),
  ],
)
def test_data_goes_over_the_slices(kind, slices, size, shape):
  devices = machine(kind, slices, size)
  grid = arrange(devices, shape)
  assert grid.shape == shape
  assert sorted(d.id for d in grid.flat) == list(range(slices * size))
  assert crossing(grid, 'fsdp') == crossing(grid, 'tensor') == 1
  # The slices, one after another, are the slowest part of data.
  blocks = grid.reshape(slices, -1)
  assert [{d.slice_index for d in block} for block in blocks] == [
    {k} for k in range(slices)
  ]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
  ('slices', 'shape', 'over_data', 'over_fsdp'),
  [(4, (1, 16, 1), 1, 4), (4, (2, 8, 1), 2, 2), (4, (2, 2, 4), 2, 2)],
)
def test_fsdp_goes_over_those_that_data_cannot(
  kind, slices, shape, over_data, over_fsdp
):
  grid = arrange(machine(kind, slices, 4), shape)
  assert len({d.id for d in grid.flat}) == 16
  assert crossing(grid, 'data') == over_data
  assert crossing(grid, 'fsdp') == over_fsdp
  assert crossing(grid, 'tensor') == 1


@pytest.mark.parametrize('shape', [(1, 1, 16), (2, 1, 8), (1, 2, 8)])
def test_tensor_never_leaves_a_slice(shape):
  with pytest.raises(ValueError, match='must span the 4 slices of 4 dev'):
    arrange(machine(KINDS[0], 4, 4), shape)


def parts(data, fsdp):
  """A layout that cuts a batch into `data` x `fsdp` parts, on one host."""
  mesh = types.SimpleNamespace(shape={'data': data, 'fsdp': fsdp})
  return types.SimpleNamespace(mesh=mesh, share=lambda batch_size: (0, 1))


@given(st.integers(-1, 300), st.integers(1, 32), st.sampled_from([1, 2, 4]))
def test_the_sizes_that_are_named_are_the_nearest(size, data, fsdp):
  layout, n = parts(data, fsdp), data * fsdp
  if size > 0 and size % n == 0:
    Layout.check_batch_size(layout, size)
    return
  with pytest.raises(ValueError, match=f'batch_size = {size} ') as caught:
    Layout.check_batch_size(layout, size)
  named = str(caught.value).split('such as ')[1].split(' or ')
  below = max(size, 0) // n * n
  sizes = [int(text) for text in named]
  assert sizes == [b for b in (below, below + n) if b > 0]
  for b in sizes:
    Layout.check_batch_size(layout, b)


def test_the_message():
  with pytest.raises(ValueError, match=r'8 \(data.*\), such as 96 or 104$'):
    Layout.check_batch_size(parts(4, 2), 100)
