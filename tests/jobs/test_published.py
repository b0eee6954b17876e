"""A tiny FLUX and SD3.5 learn, and start a student of two times."""

import json
import pathlib
import re

import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import plan
from flowdistill.networks.sd3_positions import make_table
from flowdistill.stages.assembly import assemble, fresh_state
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_objectives import check_objectives
from flowdistill.training.named_arrays import by_name
from flowdistill.training.roles import AVERAGE, VELOCITY

CONFIG = pathlib.Path(__file__).with_name('published.py')
FLUX, SD3 = f'{CONFIG}:flux', f'{CONFIG}:sd3'


@pytest.fixture(scope='module')
def flux(tmp_path_factory):
  """The workdir of both stages."""
  return trained(tmp_path_factory.mktemp('flux'), FLUX)


@pytest.fixture(scope='module')
def sd3(tmp_path_factory):
  """The workdir of both stages."""
  return trained(tmp_path_factory.mktemp('sd3'), SD3)


def trained(workdir, config):
  tiny.train_here(workdir, config)
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize('name', ['flux', 'sd3'])
def test_both_stages_learn(name, request):
  run = request.getfixturevalue(name)
  for stage in ('flow', 'distil'):
    lines = (run / stage / 'metrics.jsonl').read_text().splitlines()
    losses = [row['loss'] for row in map(json.loads, lines) if 'loss' in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
  drawn = flowdistill.load(run, stage='distil').sample(2, nfe=1)
  assert drawn.shape == (2, 8, 8, 1)


@pytest.mark.slow
def test_the_student_starts_as_its_teacher_with_a_copied_embedding(flux):
  stage = tiny.assembled(tiny.stages(FLUX)['distil'], flux / 'again', flux)
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
  before = Blueprints(tiny.stages(FLUX), tmp_path)
  assert before['flow'].roles['student'].signature == AVERAGE  # as called
  assert before['flow'].learners['student'].model.signature == VELOCITY
  assert before['distil'].roles['teacher'].signature == VELOCITY
  check_objectives(before['flow'])
  check_objectives(before['distil'])
  blueprints = Blueprints(tiny.stages(FLUX, *one_time), tmp_path)
  message = (
    r'^config\.stages\.distil\.network\.target_time = None must be a form of '
    r"\(t, s\), such as 'scaled_gap': 'ayf_emd' trains u\(x_t, t, s\)"
  )
  with pytest.raises(ConfigError, match=message):
    check_objectives(blueprints['distil'])


@pytest.mark.slow
def test_the_plan_counts_its_parameters(tmp_path):
  blueprints = Blueprints(tiny.stages(FLUX), tmp_path)
  rows = plan.run(blueprints, plan.Options(devices=1))
  for row, stage in zip(rows, ('flow', 'distil'), strict=True):
    params = by_name(blueprints[stage].learners['student'].model.params)
    assert row['parameters'] == sum(x.size for x in params.values())


@pytest.mark.slow
def test_positions_are_never_trained(sd3):
  """The student has those of the teacher, and both those of the start."""
  blueprint = Blueprints(tiny.stages(SD3), sd3)['distil']
  teacher = by_name(assemble(blueprint, sd3).frozen['teacher'])
  wanted = make_table(6, 4, 16)[...]
  np.testing.assert_array_equal(teacher['position'], wanted)
  assert np.any(teacher['last.kernel'])  # which was zero


@pytest.mark.slow
def test_the_plan_counts_the_parameters_without_the_table(tmp_path, capsys):
  blueprints = Blueprints(tiny.stages(SD3), tmp_path)
  options = plan.Options(devices=1, stage='distil')
  (row,) = plan.run(blueprints, options)
  params = by_name(blueprints['distil'].learners['student'].model.params)
  table = params.pop('position').size
  assert row['parameters'] == sum(x.size for x in params.values())
  assert row['stored'] == table == 6 * 6 * 16
  said = f'{row["parameters"]:,} parameters, and a table of {table:,}; a call'
  assert said in capsys.readouterr().out


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      'network.dual_attention_layers=(0,2)',
      'config.stages.flow.network.dual_attention_layers = (0, 2) must be diff',
    ),
    (
      'network.pos_embed_max_size=3',
      'config.stages.flow.network.pos_embed_max_size = 3 must be at least 4',
    ),
    (
      'network.qk_norm=rms',
      "config.stages.flow.network.qk_norm = 'rms' must be None or 'rms_norm'",
    ),
    (
      'network.joint_attention_dim=4096',
      'config.stages.flow.network.joint_attention_dim = 4096 must be 8, as of',
    ),
    (
      'network.num_layer=3',
      "did you mean 'num_layers'",
    ),
    (
      "dataset.text={'name': 'words', 'length': 4}",
      "sd3 takes the conditions 'text' and 'pooled', and these examples have "
      "no 'text'",
    ),
  ],
)
def test_what_is_out_of_range_is_named_before_anything_is_done(
  tmp_path, override, message
):
  with pytest.raises(ConfigError, match=re.escape(message)):
    specs = tiny.stages(SD3, f'stages.flow.{override}')
    tiny.check_here({'flow': specs['flow']}, tmp_path)
