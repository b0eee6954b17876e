"""The cost of a training step, counted on a stage as it is trained."""

import math
import types

import jax
import pytest
from jobs import tiny

from flowdistill.build import objects as build
from flowdistill.planning import cost
from flowdistill.planning.cost import (
  forward_passes,
  ideal_seconds,
  size_of,
  without_remat,
)
from flowdistill.planning.flops import UnknownLength
from flowdistill.planning.hardware import HARDWARE, peak_of
from flowdistill.stages.assembly import assemble


def test_a_gradient_is_three_forward_passes(tmp_path):
  spec = tiny.stages(tiny.CONFIGS / 'quickstart.py')['flow']
  assembly = assemble(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(assembly) == pytest.approx(3, rel=0.02)


def test_it_is_that_of_the_objective(tmp_path):
  """MeanFlow has a tangent besides."""
  config = tiny.CONFIGS / 'quickstart.py'
  spec = tiny.stages(config, 'stages.flow.objective=mean_flow')['flow']
  assembly = assemble(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(assembly) == pytest.approx(4, rel=0.02)


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
  return spec, assemble(spec, tmp_path / 'flow', tmp_path)


@pytest.mark.parametrize('kind', HARDWARE)
def test_the_ideal_step_by_hand(chips, tmp_path, kind):
  """A product forwards, and two backwards; one, where data alone goes in."""
  spec, assembly = points(tmp_path)
  params = jax.tree.leaves_with_path(assembly.models['student'].params)
  named = [(jax.tree_util.keystr(path), x.shape) for path, x in params]
  kernels = [(p, math.prod(shape)) for p, shape in named if "['kernel']" in p]
  products = sum(3 * size for _, size in kernels)
  products -= sum(size for path, size in kernels if "['first']" in path)
  for name in HARDWARE[kind].kinds:
    chips(name)
    expected = 2 * 32 * products / (4 * HARDWARE[kind].flops)
    assert ideal_seconds(spec, assembly) == pytest.approx(expected)


@pytest.mark.parametrize('kind', ['cpu', 'NVIDIA H100 PCIe', 'TPU v5x', ''])
def test_of_a_chip_that_is_not_known_there_is_none(chips, tmp_path, kind):
  chips(kind)
  assert ideal_seconds(*points(tmp_path)) is None


def test_of_a_step_with_an_unknown_loop_there_is_none(
  chips, tmp_path, monkeypatch
):
  """Any other error is one."""

  def fail(error):
    raise error

  chips('NVIDIA H200')
  monkeypatch.setattr(cost, 'step_flops', lambda _: fail(UnknownLength()))
  assert ideal_seconds(*points(tmp_path)) is None
  monkeypatch.setattr(cost, 'step_flops', lambda _: fail(ValueError('other')))
  with pytest.raises(ValueError, match='other'):
    ideal_seconds(*points(tmp_path))


def test_no_two_kinds_have_the_same_name():
  names = [name for chip in HARDWARE.values() for name in chip.kinds]
  assert len(names) == len(set(names))
  assert peak_of('NVIDIA H200') == HARDWARE['h200'].flops


def test_what_is_computed_again_is_not_asked_for():
  network = {'name': 'dit', 'remat': 'full', 'width': 64}
  found = without_remat({'network': network, 'seed': 1})
  assert found == {'network': {**network, 'remat': None}, 'seed': 1}
  plain = {'network': {'name': 'mlp'}}
  assert without_remat(plain) == plain


@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_the_ideal_step_is_that_without(chips, tmp_path, remat):
  chips('NVIDIA H200')
  found = []
  for override in (), (f'network.remat={remat}',):
    made = tiny.stages(
      tiny.CONFIGS / 'quickstart.py', 'train.batch_size=8', *override
    )['flow']
    assembly = assemble(made, tmp_path / 'flow', tmp_path)
    found.append((ideal_seconds(made, assembly), cost.step_flops(assembly)))
  (plain, once), (again, more) = found
  assert plain == again
  assert more > once


@pytest.mark.parametrize(('nf', 'macs'), [(128, 6.6), (96, 3.7)])
def test_macs_are_those_of_the_papers_table(nf, macs):
  """G MACs of SlimFlow (2024), table 1, 27.9 M and 15.7 M on CIFAR-10."""
  overrides = ('dataset=digits', 'network=ncsnpp', f'network.nf={nf}')
  made = tiny.stages(
    tiny.CONFIGS / 'toys.py',
    *(f'stages.flow.{text}' for text in overrides),
    'stages.flow.network.res_blocks=2',
    'stages.flow.network.ch_mult=(1, 2, 2)',
  )['flow']
  stage = build.bind_stage(made)
  source = types.SimpleNamespace(shape=(32, 32, 3), num_classes=0)
  size = size_of(stage, source, build.build_model(stage, source))
  assert size['macs_of_convolutions'] / 1e9 == pytest.approx(macs, abs=0.05)
  assert size['macs'] > size['macs_of_convolutions']
