"""The error of a network's derivatives in its times, for each precision.

F(x_t, t, s) is the network. Few-step objectives take dF/dt along (v, 1, 0) and
dF/ds along (0, 0, 1). With jvp in float64 as the reference b, the errors of jvp
and of central differences a are ‖a − b‖ / ‖b‖ over a batch.
"""

import dataclasses
import functools
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.build.models import Model, make_apply
from flowdistill.evaluators.signature import Row
from flowdistill.flow.tangent import TANGENTS
from flowdistill.flow.transport import interpolate
from flowdistill.training.replay import Watch, module_kinds, watching
from flowdistill.training.roles import Params

REFERENCE = 'float64'
INPUTS = {  # precision of a network -> dtype of its parameters and inputs
  'float64': 'float64',
  'float32': 'float32',
  'bfloat16': 'float32',
}
CALLS = 5  # the median of their times is reported


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
  """The inputs of a network: x_t, v [b, ...], t, s [b], cond of [b, ...]."""

  x_t: Any
  v: Any
  t: Any
  s: Any
  cond: dict[str, Any]

  @classmethod
  def between(cls, x0: Any, cond: dict[str, Any], seed: int) -> 'Point':
    """Points on lines from data x0 [b, ...] to noise, at 0 <= s <= t <= 1."""
    rng = np.random.default_rng(seed)
    t, share = rng.uniform(size=(2, len(x0))).astype(x0.dtype)
    x1 = rng.standard_normal(x0.shape).astype(x0.dtype)
    return cls(interpolate(x0, x1, t), x1 - x0, t, share * t, cond)

  @property
  def place(self) -> tuple[Any, Any, Any]:
    """(x_t, t, s)."""
    return self.x_t, self.t, self.s

  @property
  def directions(self) -> dict[str, tuple[Any, Any, Any]]:
    """Name of a derivative -> its tangent (dx_t, dt, ds)."""
    zero, one = 0 * self.t, 0 * self.t + 1
    return {'dF_dt': (self.v, one, zero), 'dF_ds': (0 * self.v, zero, one)}


def audit(
  models: Mapping[str, Model], params: Params, point: Point, epsilon: float
) -> list[Row]:
  """A row per precision and method: distances to the reference, and cost.

  `models` is precision -> network, float64 first; `epsilon` is the step of the
  central differences.
  """
  exact: dict[str, np.ndarray] = {}
  rows = []
  for precision, model in models.items():
    with jax.enable_x64(precision == REFERENCE):
      weights = jax.device_put(cast(params, INPUTS[precision]))
      at = cast(point, INPUTS[precision])
      for method, outputs, cost in measure(model, weights, at, epsilon):
        exact = {**outputs, **exact}
        errors = {k: distance(a, exact[k]) for k, a in outputs.items()}
        row = {'method': method, 'precision': precision, **errors, **cost}
        rows.append(row)
  return rows


def measure(
  model: Model, params: Params, point: Point, epsilon: float
) -> Iterator[tuple[str, dict[str, np.ndarray], Row]]:
  """Yields (method, its outputs, its cost): forward, jvp, difference."""
  place, cond, directions = point.place, point.cond, point.directions
  forward, cost = compiled(model.apply, params, *place, cond)
  yield 'forward', {'F': np.asarray(forward(params, *place, cond))}, cost

  def slope(params, place, direction, cond):
    at = functools.partial(model.apply, params, cond=cond)
    return TANGENTS['jvp'](at, place, direction)[1]

  jvp, cost = compiled(slope, params, place, directions['dF_dt'], cond)
  yield (
    'jvp',
    {k: np.asarray(jvp(params, place, d, cond)) for k, d in directions.items()},
    cost,
  )

  def moved(h, direction):
    at = (a + h * d for a, d in zip(place, direction, strict=True))
    return np.asarray(forward(params, *at, cond))

  differences = {
    name: (moved(epsilon, d) - moved(-epsilon, d)) / (2 * epsilon)
    for name, d in directions.items()
  }
  yield 'difference', differences, {'epsilon': epsilon}


def compiled(
  f: Callable[..., Any], *arguments: Any
) -> tuple[Callable[..., Any], Row]:
  """The compiled f, and the times of compilation and of a call."""
  start = time.perf_counter()
  program = jax.jit(f).lower(*arguments).compile()
  seconds = time.perf_counter() - start
  calls = []
  for _ in range(1 + CALLS):
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    calls.append(1e3 * (time.perf_counter() - start))
  ms = statistics.median(calls[1:])
  return program, {'compile_s': seconds, 'ms_per_call': ms}


def distance(a: np.ndarray, b: np.ndarray) -> float:
  """‖a − b‖ / ‖b‖; 0 if both are 0, such as dF/ds of a network without s."""
  error, norm = (float(np.linalg.norm(np.ravel(x))) for x in (a - b, b))
  if error == 0:
    return 0.0
  return error / norm if norm else math.inf


def cast(tree: Any, dtype: str) -> Any:
  """NumPy arrays, those of floating point in `dtype`."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x,
    jax.tree.map(np.asarray, tree),
  )


class Dtypes(Watch):
  """Records the dtype of every module's output while a network is traced."""

  def __init__(self) -> None:
    super().__init__()
    self.dtypes: dict[str, str] = {}

  def note(self, module: Any, out: Any) -> None:
    """Records the output of a module; all blocks share one entry."""
    if id(module) in self._names:
      name = re.sub(r'\.\d+\b', '.*', self._names[id(module)])
      self.dtypes[name.removeprefix('F.')] = str(out.dtype)


def output_dtypes(
  model: Model, params: Params, point: Point
) -> dict[str, list[str]]:
  """Dtype -> the modules of the network with outputs in it, and F itself.

  Modules inside another of the same dtype are left out.
  """
  watch = Dtypes()
  apply = make_apply(model.graph, watch.role('F'))
  with watching(watch, module_kinds(model.graph, model.params)):
    jax.eval_shape(apply, params, *point.place, point.cond)
  modules: dict[str, list[str]] = {}
  for name, dtype in sorted(watch.dtypes.items()):
    names = modules.setdefault(dtype, [])
    if not any(name.startswith(f'{outer}.') for outer in names):
      names.append(name)
  return modules
