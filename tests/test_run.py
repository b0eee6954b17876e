"""A run in Python: drawing, guided and not, and going back to the noise."""

import pathlib

import jax
import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError
from flowdistill.run import Run
from flowdistill.stages.assembly import sampling_layout
from flowdistill.stages.trained import TrainedStage
from flowdistill.workdir.weights import Trained

NETWORK = {'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2}


def make_run(dataset='digits', network=NETWORK) -> Run:
  """Of a small network whose parameters are random, not zero."""
  spec = {
    'dataset': {'name': dataset},
    'network': network,
    'objective': {'name': 'rectified_flow'},
    'train': {'steps': 1},
    'evaluation': {'batch_size': 4},
  }
  here = pathlib.Path('nowhere')
  blueprint = tiny.blueprint(resolve_stage(spec), here, here)

  @jax.jit
  def start():
    params = blueprint.init('student')
    keys = iter(jax.random.split(jax.random.key(0), 99))
    return jax.tree.map(
      lambda p: p + 0.05 * jax.random.normal(next(keys), p.shape), params
    )

  student = Trained(blueprint.roles['student'].model, start(), 'random')
  layout = sampling_layout(blueprint)
  return Run(TrainedStage(blueprint, layout, {'student': student}))


@pytest.fixture(scope='module')
def run():
  return make_run()


def test_encoding_is_the_way_back(run):
  """Unguided and guided; `label` says of which class the examples are."""
  x1 = run.sample(6, sampler='euler', nfe=1, grid=tiny_step(), label=2)
  for guidance in (None, 1.5):
    how = {'sampler': 'rk4', 'nfe': 32, 'label': 2, 'guidance': guidance}
    x0 = run.sample(6, **how)
    assert x0.dtype == np.float32
    assert np.max(np.abs(x0 - x1)) > 0.1
    back = run.encode(x0, **how)
    np.testing.assert_allclose(back, x1, atol=2e-3)
  unlike = run.encode(x0, sampler='rk4', nfe=32)
  assert np.max(np.abs(unlike - back)) > 0.01


def tiny_step():
  """All but the whole way in one step is no move at all."""
  return {'name': 'explicit', 'times': (1e-6, 0.0)}


def test_guidance_leads_away_from_no_class(run):
  how = {'sampler': 'flow_map', 'label': 3}
  plain = run.sample(3, nfe=1, **how)
  null = run.sample(3, nfe=1, sampler='flow_map', label=10)
  guided = run.sample(3, nfe=2, guidance=3.0, **how)
  np.testing.assert_allclose(guided, 3 * plain - 2 * null, atol=1e-4)


def test_a_network_that_takes_the_scale_is_told_it():
  run = make_run(network=NETWORK | {'scalars': ('guidance',)})
  how = {'sampler': 'flow_map', 'nfe': 1, 'label': 3}
  plain, one = run.sample(2, **how), run.sample(2, guidance=1.0, **how)
  np.testing.assert_array_equal(plain, one)
  assert np.max(np.abs(run.sample(2, guidance=2.0, **how) - one)) > 1e-3


@pytest.mark.parametrize(
  ('how', 'message'),
  [
    ({'model': 'techer'}, "no model 'techer'"),
    (
      {'sampler': 'eulr'},
      "sampler = 'eulr' does not exist; did you mean 'euler'",
    ),
    ({'sampler': 'gamma', 'gama': 0.5}, "gamma takes no 'gama'; did you mean"),
    (
      {'sampler': 'gamma', 'gamma': '1'},
      r"gamma = '1' \(str\) must be float",
    ),
    ({'sampler': 'gamma', 'gamma': 2}, r'gamma = 2 must lie in \[0, 1\]'),
    (
      {'grid': 'unifrom'},
      "grid = 'unifrom' does not exist; did you mean 'uniform'",
    ),
    ({'grid': {'name': 'shifted', 'shif': 2.0}}, "shifted takes no 'shif'"),
    ({'sampler': 'rk45'}, "nfe = 4 must be None for 'rk45'"),
    ({'guidance': 2.0, 'nfe': 3}, 'nfe = 3 is not .* nearest are 2 and 4'),
  ],
)
def test_what_cannot_be_drawn(run, how, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    run.sample(2, **how)


def test_what_cannot_be_encoded(run):
  x0 = np.zeros((2, 8, 8, 1), np.float32)
  with pytest.raises(
    ValueError, match=r"^sampler = 'flow_map' must be a solver"
  ):
    run.encode(x0, sampler='flow_map')
  with pytest.raises(ConfigError, match="no model 'teacher'"):
    run.encode(x0, model='teacher')


def test_points_have_no_class_to_be_led_away_from():
  run = make_run('moons', {'name': 'mlp', 'width': 8, 'depth': 1})
  x0 = run.sample(3, sampler='heun', nfe=3)
  assert run.encode(x0, nfe=4).shape == (3, 2)
  with pytest.raises(ValueError, match='guidance = 2.0 has no effect'):
    run.sample(2, guidance=2.0)
