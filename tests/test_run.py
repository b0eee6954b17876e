"""A run in Python: drawing, guided and not, and going back to the noise."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from jobs import tiny

from flowdistill.build.data import Data
from flowdistill.build.tables import resolve_stage
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.texts import read_encoder
from flowdistill.run import Run
from flowdistill.stages.assembly import sampling_layout
from flowdistill.stages.trained import TrainedStage
from flowdistill.workdir.weights import Trained

NETWORK = {'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2}


TEXT = {'name': 'digits', 'text': {'name': 'words', 'length': 4}}


def make_run(dataset: Any = 'digits', network=NETWORK) -> Run:
  """Of a small network whose parameters are random, not zero."""
  spec = {
    'dataset': dataset,
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
    ({'guidance': float('nan')}, 'guidance = nan must have a finite scale'),
    ({'guidance': 10**40}, 'guidance = 10+ must have a finite scale'),
    ({'guidance': '2'}, "guidance = '2' must be a number"),
    ({'guidance': True}, 'guidance = True must be a number'),
    ({'sampler': 'gamma', 'gamma': float('nan')}, 'gamma = nan must be fin'),
    ({'nfe': True}, "nfe = True must be an integer for 'flow_map'"),
    ({'nfe': 4.0}, "nfe = 4.0 must be an integer for 'flow_map'"),
    ({'nfe': 0}, 'nfe = 0 is not possible for flow_map; the nearest is 1'),
    ({'nfe': -3}, 'nfe = -3 is not possible'),
    ({'nfe': 10**12}, 'nfe = 1000000000000 must be at most 10000'),
    ({'label': 2.7}, 'label = 2.7 must be an integer in 0 to 9'),
    ({'label': float('nan')}, 'label = nan must be an integer in 0 to 9'),
    ({'label': [1, 2, 3]}, r'label has the shape \[3\]; .* for n = 2 examples'),
    ({'label': -7}, 'label = -7 must be an integer in 0 to 9'),
    ({'cond': {'label': [0, 11]}}, 'label = 11 must be an integer in 0 to 9'),
    (
      {'cond': {'label': 3}, 'label': 3},
      'label = 3 has no effect: cond has a label too',
    ),
    ({'cond': {'labels': 3}}, "cond has 'labels': .*did you mean 'label'"),
    ({'options': {}}, "flow_map takes no 'options'"),
    *(
      ({'seed': seed}, r'seed = .* must be an integer in \[0, 2\*\*32\)')
      for seed in (
        2**32,
        2**63,
        10**23,
        -1,
        1.0,
        True,
        None,
        '1',
        np.float32(2),
      )
    ),
    *(
      ({'first': first}, r'first = .* must be an integer in \[0, 2\*\*32\)')
      for first in (2**32, -1, 1.0, True, '1')
    ),
    ({'first': 2**32 - 1}, 'n = 2 must be at most 1: examples are numbered'),
  ],
)
def test_what_cannot_be_drawn(run, how, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    run.sample(2, **how)


@pytest.mark.parametrize(
  'n', [0, -1, 2.5, 2.0, True, '2', None, 10**12, np.float64(2), float('nan')]
)
def test_numbers_of_examples_that_cannot_be(run, n):
  with pytest.raises(ValueError, match=r'^n = .* must be an integer|at most'):
    run.sample(n)


def test_numbers_of_numpy_are_numbers(run):
  whole = np.int64(2), np.uint32(1), np.int32(3)
  n, nfe, seed = whole
  how = {'label': np.int8(4), 'guidance': np.float32(1.0)}
  x = run.sample(n, nfe=nfe, seed=seed, first=np.int64(0), **how)
  np.testing.assert_array_equal(x, run.sample(2, nfe=1, seed=3, label=4))
  last = run.sample(1, nfe=1, seed=2**32 - 1, first=2**32 - 1)
  assert np.isfinite(last).all()


def test_parts_are_those_of_the_whole(run):
  """Also their classes, which go on from the first."""
  whole = run.sample(11, nfe=1, seed=5)
  parts = [run.sample(4, nfe=1, seed=5), run.sample(7, nfe=1, seed=5, first=4)]
  np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_what_cannot_be_encoded(run):
  x0 = np.zeros((2, 8, 8, 1), np.float32)
  with pytest.raises(
    ValueError, match=r"^sampler = 'flow_map' must be a solver"
  ):
    run.encode(x0, sampler='flow_map')
  with pytest.raises(ConfigError, match="no model 'teacher'"):
    run.encode(x0, model='teacher')
  for wrong in ((x0 + 1) * 127.5, np.uint8(x0), x0[0], x0 + np.nan, x0[:0]):
    with pytest.raises(ValueError, match='^x0 '):
      run.encode(wrong)
  for option in ({'seed': 1}, {'first': 1}, {'label': [1, 2, 3]}):
    with pytest.raises(ValueError, match='^heun takes no|^label has the shape'):
      run.encode(x0, nfe=3, **option)


def test_points_have_no_class_to_be_led_away_from():
  run = make_run('moons', {'name': 'mlp', 'width': 8, 'depth': 1})
  x0 = run.sample(3, sampler='heun', nfe=3)
  assert run.encode(x0, nfe=4).shape == (3, 2)
  with pytest.raises(ValueError, match='guidance = 2.0 must be removed'):
    run.sample(2, guidance=2.0)


@pytest.fixture(scope='module')
def told():
  """A run with text, whose data must not be opened."""
  made = make_run(TEXT)
  data = made.stage.blueprint.data
  closed = Data(lambda: pytest.fail('the data were opened'), data.record)
  blueprint = dataclasses.replace(made.stage.blueprint, data=closed)
  return Run(dataclasses.replace(made.stage, blueprint=blueprint))


def test_prompts_are_drawn_as_their_conditions(told):
  prompts, how = ['the digit three', 'digit', ''], {'nfe': 1, 'label': 2}
  x = told.sample(prompts=prompts, **how)
  assert x.shape == (3, 8, 8, 1)
  cond = read_encoder(told.stage.blueprint.sees.text).encode(prompts)
  np.testing.assert_array_equal(told.sample(3, cond=cond, **how), x)
  other = told.sample(prompts=['the digit four', *prompts[1:]], **how)
  assert np.max(np.abs(other[0] - x[0])) > 1e-4
  np.testing.assert_array_equal(other[1:], x[1:])


def test_the_empty_prompt_is_no_text(told):
  """The prompt of guidance, λ u(text) + (1 − λ) u(null)."""
  how = {'prompts': ['the digit one'], 'seed': 3}
  plain = told.sample(nfe=1, label=1, **how)
  null = told.sample(nfe=1, label=10, seed=3, prompts='')
  guided = told.sample(nfe=2, label=1, guidance=3.0, **how)
  np.testing.assert_allclose(guided, 3 * plain - 2 * null, atol=1e-4)


def test_a_run_without_text_takes_no_prompts(run):
  with pytest.raises(ValueError, match='prompts have no effect'):
    run.sample(prompts=['the digit one'], nfe=1)
  with pytest.raises(ValueError, match='n = 0 must be'):
    run.sample(nfe=1)
