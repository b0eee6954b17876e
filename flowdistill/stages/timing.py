"""The train step of a stage, compiled and ready to be timed.

Its weights are random and its batch is drawn, so that neither a trained network
nor data are needed: the time of a step depends on shapes alone.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from flowdistill.build.blueprint import Blueprint
from flowdistill.stages.assembly import Assembly, jit_step, lay_out
from flowdistill.stages.random_inputs import draw_batch, draw_weights
from flowdistill.training.roles import Params
from flowdistill.training.state import TrainState, init_state
from flowdistill.workdir.weights import home_of

CACHE = 'jax_enable_compilation_cache'


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a train step gets.

  Attributes:
    params: name -> weights of a role that learns, NumPy arrays.
    frozen: name -> weights of a frozen network, NumPy arrays.
    state: before the step: that of the end of the stage, so that all roles
      learn and warm-ups are over.
    batch: of the step, on the devices.
    key: of the run.
  """

  params: Mapping[str, Params]
  frozen: Mapping[str, Params]
  state: TrainState
  batch: Mapping[str, Any]
  key: jax.Array


def draw_inputs(blueprint: Blueprint, seed: int) -> Inputs:
  """Random inputs of a step, on all devices as the stage shards them."""
  layout = lay_out(blueprint)
  params = {
    name: draw_weights(role.model.params, seed)
    for name, role in blueprint.learners.items()
  }
  frozen = {
    name: draw_weights(weights, seed + 1)
    for name, weights in blueprint.frozen_params.items()
  }

  def start(params: Mapping[str, Params]) -> TrainState:
    state = init_state(blueprint.learners, params)
    step = 0 * state.step + blueprint.total
    return dataclasses.replace(state, step=step)

  shardings = layout.shardings(blueprint.state)
  state = jax.jit(start, out_shardings=shardings)(params)
  batch = layout.spread(draw_batch(blueprint, seed))
  return Inputs(params, frozen, state, batch, jax.random.key(seed))


class StepClock:
  """Compiles the train step of a stage, and times it.

  Attributes:
    compile_s: seconds of tracing and compilation; no program on disk is used.
    peak_bytes: memory of a device in the step, as the compiler plans it: its
      arguments, results and temporaries.
    loss: of the first step.
  """

  def __init__(self, blueprint: Blueprint, inputs: Inputs):
    layout = lay_out(blueprint)
    homes = {
      name: home_of(weights.reference, layout).shardings(weights.params)
      for name, weights in blueprint.frozen.items()
    }
    self.frozen = jax.device_put(dict(inputs.frozen), homes)
    self.state, self.batch, self.key = inputs.state, inputs.batch, inputs.key
    assembly = Assembly(blueprint, blueprint.folder, layout, {}, {}, None)
    args = self.state, self.frozen, self.batch, self.key
    self.step, self.compile_s = compiled(jit_step(assembly), *args)
    self.peak_bytes = peak_of(self.step)
    self.loss = math.nan

  def __call__(self) -> dict[str, Any]:
    """One step; returns its metrics when it is done."""
    self.state, metrics = self.step(
      self.state, self.frozen, self.batch, self.key
    )
    return jax.block_until_ready((self.state, metrics))[1]


def compiled(f: Any, *args: Any) -> tuple[Any, float]:
  """The compiled program of a jitted f, and the seconds that it took."""
  before = jax.config.values[CACHE]
  jax.config.update(CACHE, False)
  compilation_cache.reset_cache()  # it remembers whether it is enabled
  try:
    start = time.perf_counter()
    program = f.lower(*args).compile()
    return program, time.perf_counter() - start
  finally:
    jax.config.update(CACHE, before)
    compilation_cache.reset_cache()


def peak_of(program: Any) -> int | None:
  """Bytes of a device for a compiled program; None if it does not know."""
  found = program.memory_analysis()
  if found is None:
    return None
  ends = found.argument_size_in_bytes + found.output_size_in_bytes
  return ends + found.temp_size_in_bytes - found.alias_size_in_bytes


def interleaved(
  steps: Mapping[str, Callable[[], Any]], rounds: int, period: int = 1
) -> dict[str, list[float]]:
  """Name -> seconds per step in each round, one after the other in turn.

  What else the machine does then slows all of them alike.

  Args:
    steps: name -> a function that returns when its step is done.
    rounds: number of times that each is measured.
    period: steps of a measurement; with roles that are not updated in every
      step, their least common multiple.
  """
  seconds: dict[str, list[float]] = {name: [] for name in steps}
  for _ in range(rounds):
    for name, step in steps.items():
      start = time.perf_counter()
      for _ in range(period):
        step()
      seconds[name].append((time.perf_counter() - start) / period)
  return seconds


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
  """The lower quartile, the median and the upper one."""
  if len(values) < 2:
    return values[0], values[0], values[0]
  low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
  return low, middle, high
