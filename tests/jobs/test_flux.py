"""A tiny FLUX learns, and becomes the start of a student of two times."""

import json
import pathlib

import jax
import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import plan
from flowdistill.stages.assembly import fresh_state
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_objectives import check_objectives
from flowdistill.training.named_arrays import by_name
from flowdistill.training.roles import AVERAGE, VELOCITY

CONFIG = pathlib.Path(__file__).with_name('flux.py')


@pytest.fixture(autouse=True, scope='module')
def hastily():
  """Compiles in half of the time, for programs that run in none."""
  name = 'jax_disable_most_optimizations'
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of both stages."""
  workdir = tmp_path_factory.mktemp('flux')
  tiny.train_here(workdir, CONFIG)
  return workdir


@pytest.mark.slow
def test_both_stages_learn(run):
  for stage in ('flow', 'distil'):
    lines = (run / stage / 'metrics.jsonl').read_text().splitlines()
    losses = [row['loss'] for row in map(json.loads, lines) if 'loss' in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
  drawn = flowdistill.load(run, stage='distil').sample(2, nfe=1)
  assert drawn.shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_the_student_starts_as_its_teacher_with_a_copied_embedding(run):
  stage = tiny.assembled(tiny.stages(CONFIG)['distil'], run / 'again', run)
  student = by_name(fresh_state(stage).roles['student'].params)
  teacher = by_name(stage.frozen['teacher'])
  own = student.keys() - teacher.keys()
  assert own == {n for n in student if '.of_s.' in n}
  for name, array in student.items():
    wanted = teacher[name.replace('.of_s.', '.of_t.')]
    np.testing.assert_array_equal(array, wanted, err_msg=name)


def test_a_network_without_s_learns_a_velocity_alone(tmp_path):
  where = 'stages.distil.network'
  one_time = f'{where}.target_time=None', f'{where}.second=zero'
  before = Blueprints(tiny.stages(CONFIG), tmp_path)
  assert before['flow'].roles['student'].signature == AVERAGE  # as called
  assert before['flow'].learners['student'].model.signature == VELOCITY
  assert before['distil'].roles['teacher'].signature == VELOCITY
  check_objectives(before['flow'])
  check_objectives(before['distil'])
  blueprints = Blueprints(tiny.stages(CONFIG, *one_time), tmp_path)
  message = (
    r'^config\.stages\.distil\.network\.target_time = None must be a form of '
    r"\(t, s\), such as 'scaled_gap': 'ayf_emd' trains u\(x_t, t, s\)"
  )
  with pytest.raises(ConfigError, match=message):
    check_objectives(blueprints['distil'])


@pytest.mark.slow
def test_the_plan_counts_its_parameters(tmp_path):
  blueprints = Blueprints(tiny.stages(CONFIG), tmp_path)
  rows = plan.run(blueprints, plan.Options(devices=1))
  for row, stage in zip(rows, ('flow', 'distil'), strict=True):
    params = by_name(blueprints[stage].learners['student'].model.params)
    assert row['parameters'] == sum(x.size for x in params.values())
