"""The audit finds a tangent that is right, and one that is not."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import audit
from flowdistill.networks import NETWORKS, embeddings
from flowdistill.stages.assembly import first_state
from flowdistill.stages.audit import Point, distance, measure, output_dtypes
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.failure import Halted
from flowdistill.stages.random_inputs import draw_weights
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.workdir.record import write_record

QUICKSTART = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'


def by_method(rows):
  return {(row['method'], row['precision']): row for row in rows}


def audit_here(workdir, *overrides, source=tiny.TOY, **options):
  return tiny.run(
    audit, tiny.stages(source, *overrides), workdir, audit.Options(**options)
  )


@pytest.mark.slow
def test_a_network_without_a_checkpoint_is_audited_with_random_weights(
  tmp_path, capsys
):
  rows = audit_here(tmp_path, source=QUICKSTART)
  assert {row['stage'] for row in rows} == {'distil'}
  assert {row['weights'] for row in rows} == {audit.RANDOM}
  found = by_method(rows)
  assert len(found) == 9
  for derivative in ('dF_dt', 'dF_ds'):
    errors = {k: row.get(derivative) for k, row in found.items()}
    assert errors['jvp', 'float64'] == 0
    assert 0 < errors['difference', 'float64'] < 1e-3
    assert 0 < errors['jvp', 'float32'] < 1e-5
    assert 1e-4 < errors['jvp', 'bfloat16'] < 0.02
    assert errors['difference', 'bfloat16'] > 0.1
  for precision in ('float64', 'float32', 'bfloat16'):
    assert found['forward', precision]['ms_per_call'] > 0
    assert found['jvp', precision]['compile_s'] > 0
  assert json.loads((tmp_path / 'audit.json').read_text()) == rows
  assert 'times' in rows[0]['outputs']['float32']
  printed = capsys.readouterr().out
  assert audit.RANDOM in printed
  assert 'in float32: F, blocks.*, first, label, last, mod' in printed


def test_a_trained_stage_is_audited_with_its_weights(tmp_path):
  """In a flow the second time was never learnt: its derivative is 0."""
  kept = save_a_start(tmp_path, 'flow')
  rows = audit_here(tmp_path, stage='flow')
  assert {row['weights'] for row in rows} == {'ema at step 3'}
  assert {row['dF_ds'] for row in rows if 'dF_ds' in row} == {0.0}
  options = audit.Options(weights='params')
  blueprints = Blueprints(tiny.stages(tiny.TOY), tmp_path)
  which, params = audit.load_weights(blueprints, 'flow', options)
  assert which == 'params at step 3'
  jax.tree.map(np.testing.assert_array_equal, params, kept)


def test_weights_of_another_network_are_refused(tmp_path):
  save_a_start(tmp_path, 'flow')
  with pytest.raises(ConfigError, match='config.network: these weights do not'):
    audit_here(tmp_path, 'network.depth=2', stage='flow')


class Plain(nnx.Module):
  """u(x_t, t, s, cond) of points, without the options of our networks."""

  def __init__(self, spec, *, rngs):
    self.last = nnx.Linear(spec.shape[0] + 2, spec.shape[0], rngs=rngs)

  def __call__(self, x_t, t, s, cond, *, key=None):
    return self.last(jnp.concatenate([x_t, t[:, None], s[:, None]], axis=1))


def test_a_network_without_an_option_dtype_is_audited(tmp_path):
  with tiny.own_tables():
    NETWORKS['plain'] = Plain
    rows = audit_here(
      tmp_path, 'network.name=plain', 'stages.distil.evaluators={}'
    )
  assert by_method(rows)['jvp', 'float32']['dF_dt'] < 1e-5
  assert rows[0]['outputs']


def save_a_start(workdir, name):
  """A stage's folder, at step 3; returns parameters that are not the EMA's."""
  spec = tiny.stages(tiny.TOY)[name]
  assembly = tiny.assembled(spec, workdir / name, workdir)
  folder, data = workdir / name, assembly.blueprint.data.record
  write_record(folder, spec, assembly.references, data)
  with Checkpoints(folder / 'checkpoints', keep=1) as saved:
    state = first_state(assembly, saved)
    student = state.roles['student']
    params = jax.tree.map(lambda w: w + 1, student.params)
    student = dataclasses.replace(student, params=params)
    step = jnp.array(3, jnp.int32)
    saved.save(
      3, dataclasses.replace(state, step=step, roles={'student': student})
    )
  return params


def test_times_that_are_rounded_are_found(monkeypatch, tmp_path):
  """The jvp of a rounded time is smooth, and no derivative of what is there."""
  embed = embeddings.fourier_features

  def rounded(t, size, **options):
    return embed(t.astype(jnp.bfloat16), size, **options)

  monkeypatch.setattr(embeddings, 'fourier_features', rounded)
  with pytest.raises(Halted, match='^distil: .*dF_dt by difference in float64'):
    audit_here(tmp_path / 'none')
  assert not (tmp_path / 'none').exists()


def rows_with(**errors):
  """Rows of a network that is right, but for errors of dF/dt by jvp."""
  return [
    {
      'stage': 'distil',
      'method': method,
      'precision': precision,
      'dF_dt': errors.get(precision, 0.0) if method == 'jvp' else 0.0,
      'dF_ds': 0.01,
    }
    for method in ('jvp', 'difference')
    for precision in ('float64', 'float32', 'bfloat16')
  ]


@pytest.mark.parametrize(
  ('errors', 'dtype', 'message'),
  [
    ({'float32': 0.03}, 'float32', 'dF_dt by jvp in float32 is 3.0% off'),
    ({'float32': np.nan}, 'float32', 'dF_dt by jvp in float32 is nan% off'),
    ({'float32': 0.03}, 'bfloat16', 'dF_dt by jvp in float32 is 3.0% off'),
    ({'bfloat16': 0.03}, 'bfloat16', 'in bfloat16 is 3.0% off .network.dtype'),
  ],
)
def test_a_tangent_beyond_the_tolerance_stops_the_job(errors, dtype, message):
  with pytest.raises(Halted, match=message):
    audit.check_rows(rows_with(**errors), dtype, 0.02)
  audit.check_rows(rows_with(**dict.fromkeys(errors, 0.019)), dtype, 0.02)


def test_bfloat16_may_be_off_where_it_is_not_used():
  audit.check_rows(rows_with(bfloat16=0.03), 'float32', 0.02)


@pytest.mark.usefixtures('x64')
def test_methods_agree_with_a_derivative_that_is_known():
  """F = p x t² s: dF/dt along (v, 1, 0) is p (v t² + 2 x t) s, dF/ds p x t²."""

  def apply(params, x_t, t, s, cond):
    return params * x_t * (t**2 * s)[:, None] + 0 * cond['shift'][:, None]

  x0 = np.random.default_rng(0).normal(size=(5, 2))
  point = Point.between(x0, {'shift': np.ones(5)}, seed=1)
  x, v, t, s = point.x_t, point.v, point.t[:, None], point.s[:, None]
  np.testing.assert_allclose(x, x0 + t * v, atol=1e-12)
  assert np.all((s > 0) & (s < t) & (t < 1))
  exact = {
    'F': 3 * x * t**2 * s,
    'dF_dt': 3 * (v * t**2 + 2 * x * t) * s,
    'dF_ds': 3 * x * t**2,
  }
  model = types.SimpleNamespace(apply=apply)
  found = {m: a for m, a, _ in measure(model, np.array(3.0), point, 1e-4)}
  assert list(found) == ['forward', 'jvp', 'difference']
  for answers in found.values():
    for name, answer in answers.items():
      np.testing.assert_allclose(answer, exact[name], rtol=1e-6, atol=1e-7)


def test_distance_is_relative():
  a, b = np.array([[3.0, 0.0]]), np.array([[3.0, 4.0]])
  assert distance(a, b) == 0.8
  assert distance(0 * a, 0 * b) == 0
  assert distance(a, 0 * b) == np.inf
  assert np.isnan(distance(np.nan * a, b))


def test_scalars_are_given_and_dtypes_are_listed(tmp_path):
  changes = "network.scalars=('guidance',)", 'network.dtype=bfloat16'
  spec = tiny.stages(QUICKSTART, *changes)['distil']
  blueprint = tiny.blueprint(spec, tmp_path / 'distil', tmp_path)
  model = blueprint.variant('student', dtype='bfloat16')
  point = audit.choose_point(blueprint, audit.Options(batch_size=4))
  assert {k: v.shape for k, v in point.cond.items()} == {
    'label': (4,),
    'guidance': (4,),
  }
  found = output_dtypes(model, draw_weights(model.params, 0), point)
  assert set(found['float32']) >= {'F', 'times', 'scalars', 'label'}
  assert set(found['bfloat16']) >= {'blocks.*.qkv', 'blocks.*.down'}
  assert set(found) == {'float32', 'bfloat16'}


@pytest.mark.parametrize('name', ['batch_size', 'epsilon', 'tolerance'])
@pytest.mark.parametrize('value', [0, -1, np.inf, np.nan])
def test_options_out_of_range_raise(name, value):
  with pytest.raises(ConfigError, match=f'^--{name}={value} must be above'):
    audit.Options(**{name: value})
  with pytest.raises(ConfigError, match='^--seed=-1 must be at least 0'):
    audit.Options(seed=-1)


def test_every_audited_weight_is_away_from_zero(tmp_path):
  spec = tiny.stages(QUICKSTART)['distil']
  blueprint = tiny.blueprint(spec, tmp_path / 'distil', tmp_path)
  wanted = blueprint.variant('student', dtype='float32').params
  for leaf in jax.tree.leaves(draw_weights(wanted, 0)):
    assert leaf.dtype == np.float32
    assert np.all(leaf)
