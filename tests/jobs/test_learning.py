"""A toy config learns: a few-step student of the two moons, in a minute."""

import pytest
from jobs import tiny

LEARN = (
  'stages.flow.train.steps=1000',
  'stages.distil.train.steps=1200',
  'stages.distil.objective.warmup_steps=600',
  'network.width=64',
  'train.batch_size=256',
  "stages.distil.evaluators.energy.sweep={'teacher': [['euler', 1],"
  " ['heun', 31]], 'student': [['flow_map', 1], ['flow_map', 2]]}",
)


pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def distance(tmp_path_factory):
  """(model, NFE) -> energy distance to the moons, from 2000 points."""
  workdir = tmp_path_factory.mktemp('moons')
  rows = tiny.train_here(workdir, tiny.CONFIGS / 'toys.py', *LEARN)
  return {(r['model'], r['nfe']): r['energy_distance'] for r in rows}


def test_teacher_learns(distance):
  assert distance['teacher', 31] < 0.02


def test_student_does_in_one_step_what_one_step_of_the_teacher_cannot(distance):
  assert distance['teacher', 1] > 0.3
  assert distance['student', 1] < 0.05
  assert distance['student', 2] < 0.03
