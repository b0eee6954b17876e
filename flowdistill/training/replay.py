"""Runs a step again to find the first module with a non-finite output."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.training.roles import Rows, learning
from flowdistill.training.state import (
  TrainState,
  all_finite,
  gradients,
  keys_of,
  prepare,
)


class Watch:
  """Records, call by call, whether the output of each module is finite.

  Calls are numbered in the order of the program, an inner module before the
  one around it. Use it as `apply = make_apply(graph, watch.role('student'))`.
  """

  def __init__(self) -> None:
    self.calls: list[str] = []
    self.broken: set[int] = set()
    self._names: dict[int, str] = {}
    self._alive: list[Any] = []

  def role(self, role: str) -> Callable[[nnx.Module], None]:
    """The function to call with each merged network of a role."""

    def see(model: nnx.Module) -> None:
      self._alive.append(model)
      for path, module in nnx.iter_modules(model):
        self._names[id(module)] = '.'.join([role, *map(str, path)])

    return see

  def note(self, module: nnx.Module, out: Any) -> None:
    """Adds a check of one output to the program."""
    if id(module) not in self._names:
      return
    number = len(self.calls)
    self.calls.append(self._names[id(module)])

    def look(finite: Any) -> None:
      if not finite:
        self.broken.add(number)

    jax.debug.callback(look, all_finite(out))

  def first(self) -> str | None:
    """The first module whose output was not finite."""
    jax.effects_barrier()
    return self.calls[min(self.broken)] if self.broken else None


@contextlib.contextmanager
def watching(watch: Watch, kinds: set[type]) -> Generator[None]:
  """Records every call of these module classes in its context."""
  before = {kind: kind.__call__ for kind in kinds}

  def noted(call: Any) -> Any:
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
      out = call(self, *args, **kwargs)
      watch.note(self, out)
      return out

    return wrapped

  try:
    for kind, call in before.items():
      kind.__call__ = noted(call)
    yield
  finally:
    for kind, call in before.items():
      kind.__call__ = call


def module_kinds(graph: Any, params: Any) -> set[type]:
  """The classes of a network's modules that can be called."""
  model = nnx.merge(graph, params)
  kinds = {type(module) for _, module in nnx.iter_modules(model)}
  return {kind for kind in kinds if '__call__' in vars(kind)}


def first_not_finite(
  roles: Rows,
  state: TrainState,
  frozen: Mapping[str, Any],
  batch: Mapping[str, Any],
  key: jax.Array,
  watch: Watch,
  kinds: set[type],
  drop_cond: float,
  flip: bool,
) -> str:
  """Runs a step again, and names the first non-finite part of it.

  Returns:
    'the output of student.blocks.1.up', or if all outputs are finite, the loss
    or the first parameter with a non-finite gradient.
  """
  state = dataclasses.replace(state, finite=jnp.array(True))
  batch, keys = prepare(state, batch, key, drop_cond, flip)
  broken = ''
  for name, learns in learning(roles).items():
    own = keys_of(keys, learns)
    with watching(watch, kinds):
      loss, grads, _ = jax.jit(
        lambda *args, name=name, own=own: gradients(name, roles, *args, *own)
      )(state, frozen, batch)
      jax.block_until_ready(grads)
    if (module := watch.first()) is not None:
      return f'the output of {module}'
    broken = broken or _first_of(learns.prefix, loss, grads)
  return broken or 'nothing: this time every number is finite'


def _first_of(prefix: str, loss: jax.Array, grads: Any) -> str:
  """The loss or the first gradient of a role that is not finite, '' if none."""
  if not jnp.isfinite(loss):
    whose = f'of {prefix.rstrip("/")}, ' if prefix else ''
    return f'the loss, {whose}though the output of every module is finite'
  for path, leaf in jax.tree.leaves_with_path(grads):
    if not jnp.all(jnp.isfinite(leaf)):
      name = jax.tree_util.keystr(path, simple=True, separator='.')
      return f'the gradient of {prefix}{name.removesuffix(".value")}'
  return ''
