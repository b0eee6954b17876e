"""The cost of a training step, counted on a stage as it is trained."""

import math
import types

import jax
import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.tables import resolve_stage
from flowdistill.planning import cost
from flowdistill.planning.cost import (
  forward_passes,
  ideal_seconds,
  size_of,
)
from flowdistill.planning.flops import UnknownLength
from flowdistill.planning.hardware import HARDWARE, peak_of


def test_a_gradient_is_three_forward_passes(tmp_path):
  spec = tiny.stages(tiny.CONFIGS / 'quickstart.py')['flow']
  blueprint = tiny.blueprint(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(blueprint) == pytest.approx(3, rel=0.02)


def test_it_is_that_of_the_objective(tmp_path):
  """MeanFlow has a tangent besides."""
  config = tiny.CONFIGS / 'quickstart.py'
  spec = tiny.stages(config, 'stages.flow.objective=mean_flow')['flow']
  blueprint = tiny.blueprint(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(blueprint) == pytest.approx(4, rel=0.02)


@pytest.fixture
def chips(monkeypatch):
  """Says that there are four devices of a kind."""

  def become(kind):
    device = types.SimpleNamespace(device_kind=kind)
    fake = {'devices': lambda: [device] * 4, 'device_count': lambda: 4}
    monkeypatch.setattr(
      cost, 'jax', types.SimpleNamespace(random=jax.random, **fake)
    )

  return become


def points(tmp_path):
  """A flow of points through an MLP, 32 at a time."""
  spec = tiny.stages(tiny.TOY, 'train.batch_size=32')['flow']
  return tiny.blueprint(spec, tmp_path / 'flow', tmp_path)


@pytest.mark.parametrize('kind', HARDWARE)
def test_the_ideal_step_by_hand(chips, tmp_path, kind):
  """A product forwards, and two backwards; one, where data alone goes in."""
  blueprint = points(tmp_path)
  params = jax.tree.leaves_with_path(blueprint.roles['student'].model.params)
  named = [(jax.tree_util.keystr(path), x.shape) for path, x in params]
  kernels = [(p, math.prod(shape)) for p, shape in named if "['kernel']" in p]
  products = sum(3 * size for _, size in kernels)
  products -= sum(size for path, size in kernels if "['first']" in path)
  for name in HARDWARE[kind].kinds:
    chips(name)
    expected = 2 * 32 * products / (4 * HARDWARE[kind].flops)
    assert ideal_seconds(blueprint) == pytest.approx(expected)


@pytest.mark.parametrize('kind', ['cpu', 'NVIDIA H100 PCIe', 'TPU v5x', ''])
def test_of_a_chip_that_is_not_known_there_is_none(chips, tmp_path, kind):
  chips(kind)
  assert ideal_seconds(points(tmp_path)) is None


def test_of_a_step_with_an_unknown_loop_there_is_none(
  chips, tmp_path, monkeypatch
):
  """Any other error is one."""

  def fail(error):
    raise error

  chips('NVIDIA H200')
  monkeypatch.setattr(cost, 'step_flops', lambda _: fail(UnknownLength()))
  assert ideal_seconds(points(tmp_path)) is None
  monkeypatch.setattr(cost, 'step_flops', lambda _: fail(ValueError('other')))
  with pytest.raises(ValueError, match='other'):
    ideal_seconds(points(tmp_path))


def test_no_two_kinds_have_the_same_name():
  names = [name for chip in HARDWARE.values() for name in chip.kinds]
  assert len(names) == len(set(names))
  assert peak_of('NVIDIA H200') == HARDWARE['h200'].flops


@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_the_ideal_step_is_that_without(chips, tmp_path, remat):
  chips('NVIDIA H200')
  found = []
  for override in (), (f'network.remat={remat}',):
    made = tiny.stages(
      tiny.CONFIGS / 'quickstart.py', 'train.batch_size=8', *override
    )['flow']
    blueprint = tiny.blueprint(made, tmp_path / 'flow', tmp_path)
    found.append((ideal_seconds(blueprint), cost.step_flops(blueprint)))
  (plain, once), (again, more) = found
  assert plain == again
  assert more > once


@pytest.mark.parametrize(('nf', 'macs'), [(128, 6.6), (96, 3.7)])
def test_macs_are_those_of_the_papers_table(nf, macs, tmp_path):
  """G MACs of SlimFlow (2024), table 1, 27.9 M and 15.7 M on CIFAR-10."""
  overrides = ('dataset=digits', 'network=ncsnpp', f'network.nf={nf}')
  made = tiny.stages(
    tiny.CONFIGS / 'toys.py',
    *(f'stages.flow.{text}' for text in overrides),
    'stages.flow.network.res_blocks=2',
    'stages.flow.network.ch_mult=(1, 2, 2)',
  )['flow']
  x0 = np.full((2, 32, 32, 3), np.array([0, 128, 255], np.uint8))
  np.savez(tmp_path / 'x.npz', x0=x0)
  made['dataset'] = {'name': 'arrays', 'path': str(tmp_path / 'x.npz')}
  made = resolve_stage(made)
  size = size_of(tiny.blueprint(made, tmp_path / 'flow', tmp_path))
  assert size['macs_of_convolutions'] / 1e9 == pytest.approx(macs, abs=0.05)
  assert size['macs'] > size['macs_of_convolutions']
