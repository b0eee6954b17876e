"""Adversarial finetuning from a config: started, killed, planned, counted."""

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jobs import elastic, tiny

from flowdistill.config.bind import ConfigError
from flowdistill.planning.cost import call_flops, step_flops
from flowdistill.planning.flops import flops
from flowdistill.planning.forecast import forecast
from flowdistill.stages.blueprints import Blueprints

CONFIG = pathlib.Path(__file__).with_name('adversarial.py')


def lines(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def blueprint(*overrides):
  return Blueprints(tiny.stages(CONFIG, *overrides), pathlib.Path())['run']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  tiny.train_here(workdir, CONFIG)
  return workdir


@pytest.mark.slow
def test_the_term_is_on_from_the_start_of_the_discriminator(finished):
  rows = lines(finished)
  assert [row['adversarial'] > 0 for row in rows] == [False] * 2 + [True] * 6
  learnt = [row['step'] for row in rows if 'discriminator/loss' in row]
  assert learnt == [4, 6, 8]
  penalised = [row.get('discriminator/penalty', 0) > 0 for row in rows]
  assert penalised == [k in (4, 8) for k in range(1, 9)]


@pytest.mark.slow
def test_it_is_killed_and_continued_to_the_byte(finished, tmp_path):
  def ready():
    path = tmp_path / 'metrics.jsonl'
    return path.is_file() and len(path.read_text().splitlines()) >= 5

  tiny.send_when(tiny.start(tmp_path, CONFIG), ready)
  tiny.start(tmp_path, CONFIG).communicate()
  assert lines(tmp_path) == lines(finished)
  tiny.assert_same_bytes(elastic.arrays(finished), elastic.arrays(tmp_path))


@pytest.mark.slow
def test_a_plan_counts_the_discriminator():
  row = forecast(blueprint(), 8)
  assert {r['role'] for r in row['largest']} == {'student', 'discriminator'}


@pytest.mark.slow
def test_a_step_costs_the_sum_that_the_algorithm_needs():
  """In latents of 4 x 4: the gradient of a stride counts its zeros."""
  stage = blueprint(
    "space={'name': 'patch_dct', 'patch': 2}",
    'roles.discriminator.every=1',
    'roles.discriminator.start=0',
    'roles.discriminator.objective.penalty_every=1',
    'network.width=64',
    'roles.discriminator.network.channel_max=32',
    'roles.discriminator.network.channel_base=256',
  )
  critic, batch = stage.learners['discriminator'].model, stage.batch()
  once = flops(critic.apply, critic.params, batch['x0'], batch['cond'])
  # mean_flow 4, fakes of two jumps 2 + 2, and 2 for the discriminator.
  student = 4 + 4 + 2
  discriminator = 3 + 6 + 3 + 3
  expected = student * call_flops(stage) + discriminator * once
  assert step_flops(stage) == pytest.approx(expected, rel=0.03)


def test_a_start_after_the_end_is_refused():
  with pytest.raises(ConfigError, match=r'discriminator.start = 8 steps must'):
    blueprint('roles.discriminator.start=8')


def test_updates_of_a_role_that_starts_later():
  role = blueprint().learners['discriminator']
  assert [k for k in range(1, 9) if role.is_due(k)] == [4, 6, 8]
  assert [role.updates(k) for k in (3, 5, 7)] == [0, 1, 2]
  steps = jnp.arange(1, 9)
  assert list(steps[jax.vmap(role.is_due)(steps)]) == [4, 6, 8]
