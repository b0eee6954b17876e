"""Frozen weights in the memory of the host, from the config to the weights."""

import pathlib

import jax
import numpy as np
import pytest
from jobs import hosts, tiny

import flowdistill
from flowdistill.build.models import fetched_at_once
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.planning.forecast import forecast
from flowdistill.planning.program import nbytes
from flowdistill.stages.assembly import assemble
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.timing import StepClock, draw_inputs
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import HOST, Layout
from flowdistill.workdir.weights import home_of

LAYOUT = Layout(make_mesh())
NOWHERE = pathlib.Path('nowhere')
FAR = {'source': 'stage:flow', 'offload': True}
DEEP = ('network.depth=6', 'stages.flow.train.steps=2')
TOY = (*DEEP, f'stages.distil.frozen={{"teacher": {FAR}}}')
LORA = (
  *TOY,
  f'stages.distil.init_from={FAR}',
  'stages.distil.lora={"layers": ("layers.*.linear",), "rank": 2}',
)
TEACHER = 'stages.distil.frozen.teacher'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The workdirs of a run with its teacher on the device, and on the host."""
  found = []
  for overrides in (DEEP, TOY):
    workdir = tmp_path_factory.mktemp('offload')
    tiny.train_here(workdir, tiny.TOY, *overrides)
    found.append(workdir)
  return found


@pytest.mark.slow
def test_it_learns_the_same_to_the_byte(trained):
  near, far = (tiny.arrays(workdir / 'distil') for workdir in trained)
  tiny.assert_same_bytes(near, far)


@pytest.mark.slow
def test_the_teacher_is_on_the_host_and_draws_the_same(trained):
  near, far = trained
  specs = tiny.stages(tiny.TOY, *TOY)
  blueprint = Blueprints(specs, far)['distil']
  params = assemble(blueprint, far).frozen['teacher']
  assert {x.sharding.memory_kind for x in jax.tree.leaves(params)} == {HOST}
  how = {'model': 'teacher', 'sampler': 'heun', 'nfe': 5}
  np.testing.assert_array_equal(
    *(flowdistill.load(workdir).sample(8, **how) for workdir in (near, far))
  )


@pytest.mark.slow
def test_a_run_may_go_on_with_the_teacher_elsewhere(trained):
  longer = 'stages.distil.train.steps=30'
  for workdir, overrides in zip(trained, (TOY, DEEP), strict=True):
    tiny.train_here(workdir, tiny.TOY, *overrides, longer)
  near, far = (tiny.arrays(workdir / 'distil') for workdir in trained)
  tiny.assert_same_bytes(near, far)


@pytest.mark.slow
def test_a_lora_learns_beside_a_base_on_the_host(tmp_path):
  for name, where in (('near', False), ('far', True)):
    overrides = [
      text.replace("'offload': True", f"'offload': {where}") for text in LORA
    ]
    tiny.train_here(tmp_path / name, tiny.TOY, *overrides, 'network.remat=full')
  near, far = (tiny.arrays(tmp_path / n / 'distil') for n in ('near', 'far'))
  tiny.assert_same_bytes(near, far)
  x, y = (
    flowdistill.load(tmp_path / n).sample(8, nfe=1) for n in ('near', 'far')
  )
  np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_shards_of_several_devices_are_on_the_host(tmp_path):
  overrides = [f'--config.{text}' for text in TOY]
  few = ('--config.stages.distil.evaluators={}', '--config.train.batch_size=8')
  process = hosts.start(
    tmp_path, tiny.TOY, 4, *overrides, *few, '--config.mesh.data=2',
    '--config.mesh.fsdp=2',
  )  # fmt: skip
  errors = process.communicate(timeout=240)[1]
  assert process.returncode == 0, errors


def blueprint(*overrides, name='distil'):
  return Blueprints(tiny.stages(tiny.TOY, *overrides), NOWHERE)[name]


def test_a_plan_counts_two_layers_of_it_and_not_the_whole():
  near, far = (
    forecast(blueprint(*overrides), 1)['bytes_per_device']
    for overrides in (DEEP, TOY)
  )
  whole = blueprint(*TOY).frozen_params['teacher']
  layers = whole['layers']['each']
  one, all_layers = (
    sum(nbytes(x) // n for x in jax.tree.leaves(layers)) for n in (6, 1)
  )
  total = sum(map(nbytes, jax.tree.leaves(whole)))
  visiting = total - all_layers + 2 * one
  assert fetched_at_once(whole) == visiting
  assert (near['frozen'], near['offloaded']) == (total, 0)
  assert (far['frozen'], far['offloaded']) == (0, total)
  assert near['peak'] - far['peak'] == total - visiting > 0


def test_few_layers_are_unrolled_and_come_all_at_once():
  whole = blueprint(*TOY, 'network.depth=4').frozen_params['teacher']
  assert fetched_at_once(whole) == sum(map(nbytes, jax.tree.leaves(whole)))


@pytest.mark.slow
def test_the_step_of_a_benchmark_has_it_on_the_host():
  found = blueprint(*TOY)
  clock = StepClock(found, draw_inputs(found, 0))
  params = jax.tree.leaves(clock.frozen['teacher'])
  assert {x.sharding.memory_kind for x in params} == {HOST}
  assert np.isfinite(float(clock()['loss']))


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ["stages.distil.init_from={'source': 'stage:flow', 'offload': True}"],
      'init_from.offload has no effect outside of frozen, and without lora',
    ),
    (
      LORA,
      'config.stages.distil.init_from.offload = True needs '
      "config.stages.distil.network.remat = 'full' or 'dots'",
    ),
    (
      [f'{TEACHER}={{"source": "stage:flow", "offload": "yes"}}'],
      'offload must be True or False',
    ),
  ],
)
def test_what_cannot_be_on_the_host_is_refused(overrides, message):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(tiny.TOY, *overrides), NOWHERE)


def test_devices_without_such_memory_are_named(monkeypatch):
  class Device:
    """Of a backend with one kind of memory."""

    def addressable_memories(self):
      return [type('Memory', (), {'kind': 'device'})]

  monkeypatch.setattr(jax, 'devices', lambda: [Device()])
  with pytest.raises(ValueError, match="no memory of the kind 'pinned_host'"):
    LAYOUT.on_host()
  asked = Reference('stage:flow', offload=True)
  with pytest.raises(ConfigError, match='stage:flow: offload = True must be F'):
    home_of(asked, LAYOUT)
