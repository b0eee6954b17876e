"""Two networks that learn in one stage, of which one every fifth step."""

import json
import pathlib

import jax
import numpy as np
import pytest
from jobs import elastic, hosts, tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.planning.cost import step_flops
from flowdistill.planning.flops import flops
from flowdistill.planning.forecast import forecast
from flowdistill.stages.blueprints import Blueprints

CONFIG = pathlib.Path(__file__).with_name('critic.py')


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def arrays(workdir):
  return {k: np.asarray(v) for k, v in elastic.arrays(workdir).items()}


@pytest.fixture(scope='module', autouse=True)
def tables():
  with tiny.own_tables():
    yield


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir of a run on one device that nobody disturbed."""
  workdir = tmp_path_factory.mktemp('finished')
  tiny.train_here(workdir, CONFIG)
  return workdir


@pytest.mark.slow
def test_both_learn_each_at_its_own_steps(finished):
  """Two micro-steps of the critic are one update of its optimiser."""
  rows = lines(finished)
  assert [row['step'] for row in rows] == list(range(1, 21))
  learnt = [row['step'] for row in rows if 'critic/loss' in row]
  assert learnt == [5, 10, 15, 20]
  assert all('fooled' in row and np.isfinite(row['loss']) for row in rows)
  state = elastic.state(finished)
  critic = state.roles['critic']
  assert int(critic.opt_state.gradient_step) == 2
  assert int(critic.opt_state.mini_step) == 0
  assert set(critic.emas) == {'main'}
  start = elastic.blueprint(finished).init('critic')
  moved = jax.tree.map(lambda a, b: np.any(a != b), critic.params, start)
  assert all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_it_is_killed_and_continued_to_the_byte(finished, tmp_path):
  def ready():
    path = tmp_path / 'metrics.jsonl'
    return path.is_file() and len(path.read_text().splitlines()) >= 7

  output = tiny.send_when(tiny.start(tmp_path, CONFIG), ready)
  assert 'results and pictures' not in output
  output = tiny.start(tmp_path, CONFIG).communicate()[0]
  assert 'continues at step' in output
  assert lines(tmp_path) == lines(finished)
  tiny.assert_same_bytes(elastic.arrays(finished), elastic.arrays(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('mesh', ['data=2,fsdp=2,tensor=2', 'fsdp=8'])
def test_on_a_mesh_it_learns_the_same(finished, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  (ended,) = hosts.end_all([hosts.start(tmp_path, CONFIG, 8, *axes)])
  assert ended[0] == 0, ended[2]
  for ours, theirs in zip(lines(finished), lines(tmp_path), strict=True):
    assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
  'axes', [('fsdp=8',), ('data=2', 'fsdp=2', 'tensor=2')]
)
def test_it_is_restored_onto_another_mesh(finished, axes):
  found = elastic.restored_on(finished, 8, *axes)
  here = elastic.restored(finished)
  assert found['arrays'] == here['arrays']
  assert found['batch'] == here['batch']
  assert any('.critic.' in name for name in here['arrays'])
  assert found['loss'] == pytest.approx(here['loss'], rel=1e-4)


def test_a_plan_counts_both():
  blueprint = Blueprints(tiny.stages(CONFIG), pathlib.Path())['run']
  row = forecast(blueprint, 8)
  assert {r['role'] for r in row['largest']} == {'student', 'critic'}
  sizes = {
    name: sum(x.nbytes for x in jax.tree.leaves(blueprint.init(name)))
    for name in ('student', 'critic')
  }
  assert row['bytes_per_device']['parameters'] == sum(sizes.values())
  args = blueprint.state, {}, blueprint.batch(), jax.random.key(0)
  student, critic = (flops(blueprint.gradients(name), *args) for name in sizes)
  assert step_flops(blueprint) == student + critic / 5


@pytest.mark.slow
def test_the_student_is_what_is_drawn(finished):
  run = flowdistill.load(finished)
  assert run.sample(3, nfe=1).shape == (3, 2)
  with pytest.raises(ConfigError, match="no model 'critic'"):
    run.sample(3, model='critic')


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('roles.critic.every=0', 'roles.critic: every = 0 must|every = 0 must be'),
    ('roles.critic.objective=rectified', "rectified' does not exist"),
    ('roles.critic.ema.main.decay=2.0', r'ema.main.decay = 2.0 must lie in'),
    ('roles.critic.optim.clip=-1.0', 'roles.critic.optim.clip = -1.0 must be'),
    ('roles={}', 'objective: .*asks for nets.critic'),
    (
      "evaluators={'energy': {'name': 'energy', 'sweep': {'critic': "
      "[['euler', 1]]}}}",
      "has the role 'critic'",
    ),
  ],
)
def test_what_is_wrong_is_refused(override, message):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(CONFIG, override), pathlib.Path('nowhere'))
