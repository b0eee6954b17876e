"""A tiny SD3.5 learns, and becomes the start of a student of two times."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import plan
from flowdistill.networks.sd3_positions import make_table
from flowdistill.stages.assembly import assemble
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.named_arrays import by_name

CONFIG = pathlib.Path(__file__).with_name('sd3.py')


@pytest.fixture(scope='module')
def hastily():
  """Compiles in half of the time, for programs that run in none."""
  name = 'jax_disable_most_optimizations'
  before = jax.config.read(name)
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)


@pytest.fixture(scope='module')
def run(hastily, tmp_path_factory):
  """The workdir of both stages."""
  workdir = tmp_path_factory.mktemp('sd3')
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
def test_positions_are_never_trained(run):
  """The student has those of the teacher, and both those of the start."""
  blueprint = Blueprints(tiny.stages(CONFIG), run)['distil']
  teacher = by_name(assemble(blueprint, run).frozen['teacher'])
  wanted = make_table(6, 4, 16)[...]
  np.testing.assert_array_equal(teacher['position'], wanted)
  assert np.any(teacher['last.kernel'])  # which was zero


@pytest.mark.slow
def test_the_plan_counts_the_parameters_without_the_table(tmp_path, capsys):
  blueprints = Blueprints(tiny.stages(CONFIG), tmp_path)
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
    specs = tiny.stages(CONFIG, f'stages.flow.{override}')
    tiny.check_here({'flow': specs['flow']}, tmp_path)
