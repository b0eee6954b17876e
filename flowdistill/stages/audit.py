"""How exact the derivatives of a network in its times are, in each precision.

F(x_t, t, s) is the network. Few-step objectives take dF/dt along (v, 1, 0) and
dF/ds along (0, 0, 1). The reference is jvp in float64; measured against it are
jvp and central differences in float64, float32 and bfloat16, as the distance
‖a − b‖ / ‖b‖ over a batch.
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
from flowdistill.flow.transport import interpolate
from flowdistill.training.replay import Watch, module_kinds, watching
from flowdistill.training.roles import Params

REFERENCE = 'float64'
INPUTS = {  # precision of a network -> dtype of its parameters and inputs
  'float64': 'float64',
  'float32': 'float32',
  'bfloat16': 'float32',
}
CALLS = 5  # of which the median time is reported


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
  """Where a network is asked: x_t, v [b, ...], t, s [b], cond of [b, ...]."""

  x_t: Any
  v: Any
  t: Any
  s: Any
  cond: dict[str, Any]

  @classmethod
  def between(cls, x0: Any, cond: dict[str, Any], seed: int) -> 'Point':
    """On lines from data x0 [b, ...] to noise, at 0 <= s <= t <= 1."""
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
    """Name of a derivative -> along what (x_t, t, s) moves."""
    zero, one = 0 * self.t, 0 * self.t + 1
    return {'dF_dt': (self.v, one, zero), 'dF_ds': (0 * self.v, zero, one)}


def audit(
  models: Mapping[str, Model], params: Params, point: Point, epsilon: float
) -> list[Row]:
  """A row per precision and method: distances to the reference, and cost."""
  exact: dict[str, np.ndarray] = {}
  rows = []
  for precision, model in models.items():
    with jax.enable_x64(precision == REFERENCE):
      weights = jax.device_put(cast(params, INPUTS[precision]))
      at = cast(point, INPUTS[precision])
      for method, answers, cost in measure(model, weights, at, epsilon):
        exact = {**answers, **exact}
        off = {name: distance(a, exact[name]) for name, a in answers.items()}
        rows.append({'method': method, 'precision': precision, **off, **cost})
  return rows


def measure(
  model: Model, params: Params, point: Point, epsilon: float
) -> Iterator[tuple[str, dict[str, np.ndarray], Row]]:
  """Yields (method, its answers, its cost): forward, jvp, difference."""
  place, cond, directions = point.place, point.cond, point.directions
  forward, cost = compiled(model.apply, params, *place, cond)
  yield 'forward', {'F': np.asarray(forward(params, *place, cond))}, cost

  def slope(params, place, direction, cond):
    at = functools.partial(model.apply, params, cond=cond)
    return jax.jvp(at, place, direction)[1]

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
  """The compiled f, and what it takes to compile it and to call it."""
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
  """‖a − b‖ / ‖b‖; 0 where both are 0, as dF/ds is if s was never learnt."""
  off, norm = (float(np.linalg.norm(np.ravel(x))) for x in (a - b, b))
  if off == 0:
    return 0.0
  return off / norm if norm else math.inf


def cast(tree: Any, dtype: str) -> Any:
  """Arrays as numpy's, and in `dtype` where they are floating point."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x,
    jax.tree.map(np.asarray, tree),
  )


class Dtypes(Watch):
  """Notes the dtype of every module's output while a network is traced."""

  def __init__(self) -> None:
    super().__init__()
    self.found: dict[str, str] = {}

  def note(self, module: Any, out: Any) -> None:
    """Writes down what comes out of a module; blocks are one."""
    if id(module) in self._names:
      name = re.sub(r'\.\d+\b', '.*', self._names[id(module)])
      self.found[name.removeprefix('F.')] = str(out.dtype)


def output_dtypes(
  model: Model, params: Params, point: Point
) -> dict[str, list[str]]:
  """Dtype -> the modules of the network, F itself too, that answer in it.

  One that lies in another of the same dtype is left out.
  """
  dtypes = Dtypes()
  apply = make_apply(model.graph, dtypes.role('F'))
  with watching(dtypes, module_kinds(model.graph, model.params)):
    jax.eval_shape(apply, params, *point.place, point.cond)
  listed: dict[str, list[str]] = {}
  for name, dtype in sorted(dtypes.found.items()):
    names = listed.setdefault(dtype, [])
    if not any(name.startswith(f'{outer}.') for outer in names):
      names.append(name)
  return listed
