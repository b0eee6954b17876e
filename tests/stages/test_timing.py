"""Steps are timed in turn, on random weights, and compiled anew."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jobs import tiny

from flowdistill.stages import timing
from flowdistill.stages.random_inputs import draw_batch


def test_rounds_are_taken_in_turn_and_counted_per_step(monkeypatch):
  now, order = [0.0], []
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])

  def lasts(name, seconds):
    def step():
      order.append(name)
      now[0] += seconds

    return step

  steps = {'a': lasts('a', 1.0), 'b': lasts('b', 3.0)}
  found = timing.interleaved(steps, rounds=2, period=2)
  assert found == {'a': [1.0, 1.0], 'b': [3.0, 3.0]}
  assert ''.join(order) == 'aabbaabb'


@pytest.mark.parametrize(
  ('values', 'expected'),
  [([7.0], (7, 7, 7)), ([1, 2], (1.25, 1.5, 1.75)), ([5, 1, 3], (2, 3, 4))],
)
def test_quartiles(values, expected):
  assert timing.quartiles(values) == expected


def test_a_program_on_disk_is_not_used(tmp_path):
  """Else the time of compilation would be that of a file."""
  x = jnp.ones((8, 4))
  settings = {
    'jax_compilation_cache_dir': str(tmp_path),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: jax.config.values[name] for name in settings}
  try:
    for name, value in settings.items():
      jax.config.update(name, value)
    program, seconds = timing.compiled(jax.jit(lambda x: x @ x.T), x)
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    timing.compilation_cache.reset_cache()
  assert seconds > 0
  assert not [*tmp_path.iterdir()]
  assert jax.config.values[timing.CACHE]
  # Arguments of 128 bytes, results of 256.
  assert timing.peak_of(program) >= 128 + 256
  np.testing.assert_array_equal(program(x), np.full((8, 8), 4.0))


def test_a_batch_is_drawn_like_one_of_the_data(tmp_path):
  quickstart = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'
  (spec,) = (tiny.stages(quickstart)['distil'],)
  blueprint = tiny.blueprint(spec, tmp_path / 'distil', tmp_path)
  batch = draw_batch(blueprint, 0)
  wanted = blueprint.batch()
  assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(
    lambda x: (x.shape, x.dtype), wanted
  )
  label = batch['cond']['label']
  assert set(label) <= set(range(10))
  assert len(set(label)) > 1
  assert set(batch['null']['label']) == {10}
  assert math.isclose(batch['x0'].std(), 1, rel_tol=0.1)
