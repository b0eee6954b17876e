"""Checkpoints of a run. Nothing else imports Orbax.

A tree is stored as a flat dict, path -> array: so it can be compared with what
a config asks for before anything is read, and it does not matter of which
classes (nnx.State, optax's tuples, dataclasses) the tree is made. Every leaf is
an array of at least one element, and no typed random key.

Orbax writes a checkpoint under a temporary name and renames it when it is
complete: a folder with a plain number is complete, whatever is killed when.
"""

import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from flowdistill.training.orbax_logging import Ear, quieten
from flowdistill.training.sharding import path_name

ITEM, FIGURE = 'state', 'figure'
POLL = 0.5  # seconds
Path = str | os.PathLike[str]


class CheckpointError(ValueError):
  """A checkpoint is damaged, or is none of this config."""


class Checkpoints:
  """Saves the checkpoints of a run into a folder, by step.

  One process (of each host) may write to a folder at a time: on opening, what a
  killed save has left there is removed. To read only, use the functions of this
  module.

  Args:
    folder: it is made if need be.
    keep: how many of the newest stay, at least 1. An older one is removed when
      the newer one is complete.
    every: of steps that are a multiple of it the checkpoint stays; 0 for none.
    best: whether the one with the lowest `figure` stays.

  Raises:
    ValueError: if `keep` is below 1.
  """

  def __init__(
    self, folder: Path, *, keep: int, every: int = 0, best: bool = False
  ):
    if keep < 1:
      raise ValueError(f'keep is {keep}; it is at least 1')
    quieten()
    self.folder = pathlib.Path(folder).absolute()
    self._pending: ocp.AsyncResponse[bool] | None = None
    self._ear, self._saving = Ear(), 0
    self._checkpointer = ocp.training.Checkpointer(
      str(self.folder),
      preservation_policy=_policy(keep, every, best),
      cleanup_tmp_directories=True,
    )

  def save(self, step: int, tree: Any, figure: float | None = None) -> None:
    """Starts to save and returns; the arrays may be donated at once.

    `figure` says how good it is, the less the better.

    It waits for the save before, if that is not done. A step that has a
    checkpoint is left as it is, for the state is a function of the step.

    Raises:
      OSError: if this save or the one before has failed, for example because
        the disk is full. The folder must then be opened anew.
    """
    self.wait()
    if step not in self.steps():
      self._saving = step
      try:
        self._pending = self._checkpointer.save_async(
          step,
          by_name(tree),
          checkpointable_name=ITEM,
          force=True,
          metrics=None if figure is None else {FIGURE: figure},
        )
      except OSError as error:
        raise self._failed(error) from error

  def wait(self) -> None:
    """Waits until the last save is complete, and raises what it raised."""
    pending, self._pending = self._pending, None
    while pending is not None:
      begun = time.monotonic()
      try:
        pending.result(timeout=POLL)
        return
      except (OSError, ValueError) as error:  # TimeoutError is an OSError
        late = isinstance(error, TimeoutError)
        waits = late and time.monotonic() - begun > POLL / 2
        if cause := self._ear.error or (None if waits else error):
          raise self._failed(cause) from cause

  def _failed(self, cause: BaseException) -> BaseException:
    if isinstance(cause, jax.errors.JaxRuntimeError):
      return cause  # another host is lost
    path = self.folder / str(self._saving)
    return OSError(
      f'the checkpoint {path} could not be saved: {_first_line(cause)}. '
      'Those before it are untouched'
    )

  def steps(self) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    return completed_steps(self.folder)

  def latest(self) -> int | None:
    """The last step with a complete checkpoint, None if there is none."""
    return max(self.steps(), default=None)

  def restore(self, abstract: Any, step: int | None = None) -> Any:
    """See the function `restore`."""
    return restore(self.folder, abstract, step)

  def close(self) -> None:
    """Waits for the last save and lets go of the folder."""
    try:
      self.wait()
    finally:
      self._let_go()

  def _let_go(self) -> None:
    self._ear.close()
    if self._ear.error is None:  # else it would wait for the other hosts
      self._checkpointer.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: Any, *_: object) -> None:
    alone = jax.process_count() == 1
    if kind is None or alone:
      self.close()
    else:  # the other hosts may not come to save
      self._ear.close()


def _policy(keep: int, every: int, best: bool) -> Any:
  """What stays: each of these."""
  policies = ocp.training.preservation_policies
  chosen: list[Any] = [policies.LatestN(keep)]
  if every:
    chosen.append(policies.EveryNSteps(every))
  if best:
    lowest = policies.BestN(
      get_metric_fn=lambda figures: figures[FIGURE],
      reverse=True,
      n=1,
      keep_checkpoints_without_metrics=False,
    )
    chosen.append(lowest)
  return policies.AnyPreservationPolicy(chosen)


def completed_steps(folder: Path) -> list[int]:
  """Steps with a complete checkpoint in a folder, ascending.

  A folder that does not exist has none. Nothing is written.
  """
  quieten()
  found = ocp.path.step.standard_name_format().find_all(os.fspath(folder))
  return sorted(checkpoint.step for checkpoint in found)


def restore(
  folder: Path,
  abstract: Any,
  step: int | None = None,
  *,
  partial: bool = False,
) -> Any:
  """Reads a checkpoint. Nothing is written.

  Args:
    folder: of the checkpoints.
    abstract: the tree with `jax.ShapeDtypeStruct`s for arrays, as
      `jax.eval_shape` makes it. Arrays get the shardings of it; one without
      goes to the first device of this host.
    step: which one; by default the last.
    partial: whether the checkpoint may have arrays that `abstract` has not,
      such as an optimiser's.

  Returns:
    the tree with arrays.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    CheckpointError: if `abstract` differs from the checkpoint in the name,
      shape or dtype of an array (then nothing is read), or if the checkpoint is
      damaged.
  """
  path = _path_of(folder, step)
  wanted = by_name(jax.tree.map(_placed, abstract))
  with _Reading(path):
    stored = ocp.metadata(str(path), checkpointable_name=ITEM).metadata
    if stored is None:
      raise ValueError('its list of arrays is damaged')
  _compare(path, wanted, stored, partial)
  context = ocp.Context()
  context.pytree.loading.partial_load = partial
  with _Reading(path), context:
    arrays = ocp.load(str(path), wanted, checkpointable_name=ITEM)
  return jax.tree.unflatten(
    jax.tree.structure(abstract), [arrays[name] for name in wanted]
  )


class _Reading:
  """Names the checkpoint in whatever goes wrong while it is read.

  Truncated files end in errors of many classes, down to a bare Exception.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    if isinstance(error, Exception):
      raise CheckpointError(
        f'the checkpoint {self.path} cannot be read, a file in it is damaged '
        f'or missing: remove that folder to go on from the checkpoint before. '
        f'({type(error).__name__}: {_first_line(error)})'
      ) from error


def _first_line(error: BaseException) -> str:
  return (str(error).splitlines() or [''])[0][:500]


def _path_of(folder: Path, step: int | None) -> pathlib.Path:
  folder, steps = pathlib.Path(folder).absolute(), completed_steps(folder)
  if not steps:
    raise FileNotFoundError(f'there is no complete checkpoint in {folder}')
  if step is not None and step not in steps:
    raise FileNotFoundError(
      f'there is no checkpoint of step {step} in {folder}, only of {steps}'
    )
  name = ocp.path.step.standard_name_format().build_name
  return folder / name(steps[-1] if step is None else step)


def by_name(tree: Any) -> dict[str, Any]:
  """Path -> leaf, such as 'params.blocks.0.kernel', in the order of leaves."""
  names, leaves = {}, jax.tree.leaves_with_path(tree)
  for path, leaf in leaves:
    names[path_name(path)] = leaf
  if len(names) != len(leaves):
    raise ValueError('two arrays of the tree have the same path')
  return names


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = leaf.sharding
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _compare(
  path: pathlib.Path,
  wanted: Mapping[str, Any],
  stored: Mapping[str, Any],
  partial: bool,
) -> None:
  extra = () if partial else (name for name in stored if name not in wanted)
  for name in (*wanted, *extra):
    here, there = _describe(wanted.get(name)), _describe(stored.get(name))
    if here != there:
      raise CheckpointError(
        f'the checkpoint {path} does not fit this config. The first array that '
        f'differs is {name}: {there} in the checkpoint, {here} in the config'
      )


def _describe(array: Any) -> str:
  if array is None:
    return 'missing'
  return f'{array.dtype}[{", ".join(map(str, array.shape))}]'
