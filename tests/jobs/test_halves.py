"""Weights in half the bytes, from a stage to the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny

from flowdistill.training.named_arrays import by_name

HALF = (
  "stages.flow.ema={'main': {'half_life': {'steps': 1}, 'dtype': 'bfloat16'}}",
  "stages.distil.frozen.teacher={'source': 'stage:flow', 'dtype': 'bfloat16'}",
  'stages.distil.optim.schedule.learning_rate=1e-9',
  'train.steps=2',
)


def dtypes(tree):
  return {str(x.dtype) for x in jax.tree.leaves(tree)}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of a run, and its second stage."""
  workdir = tmp_path_factory.mktemp('run')
  overrides = (*tiny.UNMEASURED, *HALF)
  tiny.train_here(workdir, tiny.TOY, *overrides)
  spec = tiny.stages(tiny.TOY, *overrides)['distil']
  return workdir, tiny.assembled(spec, workdir / 'distil', workdir)


def test_averages_and_frozen_weights_in_bfloat16(run):
  """The teacher is the average to the byte; the student starts in float32."""
  workdir, made = run
  kept = {
    name.split('.emas.main.')[1]: array
    for name, array in tiny.arrays(workdir / 'flow').items()
    if '.emas.main.' in name
  }
  assert dtypes(kept) == {'bfloat16'}
  tiny.assert_same_bytes(by_name(made.frozen['teacher']), kept)
  student = {
    name.split('.params.')[1]: array
    for name, array in tiny.arrays(workdir / 'distil').items()
    if '.params.' in name
  }
  assert dtypes(student) == {'float32'}
  for name, array in kept.items():  # it hardly learns
    np.testing.assert_allclose(
      student[name], array.astype(jnp.float32), atol=1e-7
    )


def test_a_frozen_network_in_bfloat16_makes_its_products_in_it(run):
  made, ones = run[1], jnp.ones(3)
  for role, expected in (('teacher', True), ('student', False)):
    model = made.blueprint.roles[role].model
    program = jax.make_jaxpr(model.apply)(
      model.params, jnp.ones((3, 2)), ones, ones, {}
    )
    products = [
      line for line in str(program).splitlines() if 'dot_general' in line
    ]
    assert any('bf16' in line for line in products) == expected
