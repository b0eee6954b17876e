"""Checkpoints of a run. Nothing else imports Orbax.

A tree is stored as a flat dict, path -> array (`named_arrays.py`). So a
checkpoint can be compared with the arrays of a config before any is read, and
the classes of the tree's nodes (nnx.State, optax's tuples, dataclasses) do not
matter. Every leaf is an array of at least one element, but not a typed random
key.

Orbax writes a checkpoint under a temporary name and renames it when it is
complete. A folder whose name is a number is therefore complete, at whatever
moment a process is killed. Before that the first host writes the SHA-256 of
each file (checksums.json), in the background; `restore` compares all of them,
the hosts a share each. What that costs: docs/workdir.md. A checkpoint without
checksums, of an older version, is read without them.

The first checkpoint in a folder is read back at once, and compared to the byte:
training waits for it, once in a run.
"""

import contextlib
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from flowdistill.files.checksums import (
  CHECKSUMS,
  check_checksums,
  write_checksums,
)
from flowdistill.training.best_checkpoint import Best
from flowdistill.training.named_arrays import (
  by_name,
  first_difference,
  is_same,
  placed,
)
from flowdistill.training.orbax_logging import ErrorListener, reduce_logging
from flowdistill.training.plain_path import plain_path

ITEM = 'state'
POLL = 0.5  # seconds
SUMMED = 'checksums'  # a mark in the metadata of Orbax
AT_ONCE = 2**28  # bytes that are read back at a time
Path = str | os.PathLike[str]


class CheckpointError(ValueError):
  """A checkpoint is damaged, or has other arrays than this config."""


class Checkpoints:
  """Saves the checkpoints of a run into a folder, by step.

  Only one process (of each host) may write to a folder at a time: opening it
  removes what a killed save has left there. To read only, use the functions of
  this module.

  Args:
    folder: created if it does not exist.
    keep: how many of the newest are kept, at least 1. An older one is removed
      when the newer one is complete.
    every: checkpoints at multiples of this step are kept; 0 disables it.
    best: step -> figure, the lower the better. Among the checkpoints with a
      figure, the best is kept. The caller may add figures at any time, on all
      hosts alike; each save looks at those that are there. None disables it.

  Raises:
    ValueError: if `keep` is below 1.
  """

  def __init__(
    self,
    folder: Path,
    *,
    keep: int,
    every: int = 0,
    best: Mapping[int, float] | None = None,
  ):
    if keep < 1:
      raise ValueError(f'keep = {keep} must be at least 1')
    reduce_logging()
    self.folder = pathlib.Path(folder).absolute()
    self._pending: ocp.AsyncResponse[bool] | None = None
    self._listener, self._saving = ErrorListener(), 0
    self.folder.mkdir(parents=True, exist_ok=True)
    self._open = contextlib.ExitStack()
    self._plain = self._open.enter_context(plain_path(self.folder))
    context = ocp.Context()
    context.async_options.post_finalization_callback = (
      lambda: self._add_checksums()  # Orbax copies it, which a method prevents
    )
    self._checkpointer = ocp.training.Checkpointer(
      str(self._plain),
      context=context,
      preservation_policy=_policy(keep, every, best),
      cleanup_tmp_directories=True,
    )

  def save(self, step: int, tree: Any) -> None:
    """Starts to save and returns; the arrays may be donated at once.

    It first waits until the previous save is complete. If the step has a
    checkpoint it is left as it is, for the state is a function of the step.
    The first checkpoint in the folder is waited for, and read back.

    Raises:
      OSError: if this save or the previous one has failed, for example because
        the disk is full. The folder must then be opened anew.
    """
    self.wait()
    if step in (before := self.steps()):
      return
    self._saving = step
    try:
      self._pending = self._checkpointer.save_async(
        step,
        by_name(tree),
        checkpointable_name=ITEM,
        force=True,
        custom_metadata={SUMMED: True},
      )
    except OSError as error:
      raise self._failed(error) from error
    if not before:
      self.wait()
      self._read_back(step, by_name(tree))

  def _add_checksums(self) -> None:
    """Orbax calls it on the first host, before it renames the checkpoint."""
    name = str(self._saving)
    for path in self._plain.iterdir():
      if path.name == name or path.name.startswith(f'{name}.'):
        write_checksums(path, ITEM)

  def _read_back(self, step: int, arrays: Mapping[str, Any]) -> None:
    """Compares a checkpoint with its arrays; removes it if it differs."""
    path = self.folder / str(step)
    try:
      check(path)
      for part in _parts(arrays):
        wanted = {name: placed(leaf) for name, leaf in part.items()}
        back = _load(path, wanted, partial=True)
        for name, leaf in part.items():
          if not is_same(leaf, back[name]):
            raise CheckpointError(f'{name} has other values')
    except CheckpointError as error:
      if jax.process_index() == 0:
        shutil.rmtree(path, ignore_errors=True)
      raise OSError(
        f'the first checkpoint, {path}, did not come back as it was saved, and '
        'is removed: this file system, or this path, cannot hold checkpoints; '
        f'take another --workdir. ({_first_line(error.__cause__ or error)})'
      ) from error

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
        if cause := self._listener.error or (None if waits else error):
          raise self._failed(cause) from cause

  def _failed(self, cause: BaseException) -> BaseException:
    if _is_of_jax(cause):  # another host is lost; the watchdog names it
      return RuntimeError(_first_line(cause))
    path = self.folder / str(self._saving)
    why = _first_line(cause).replace(str(self._plain), str(self.folder))
    return OSError(
      f'the checkpoint {path} could not be saved: {why}. Earlier ones are '
      'untouched'
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
    """Waits for the last save and releases the folder."""
    try:
      self.wait()
    finally:
      self._release()

  def _release(self) -> None:
    self._listener.close()
    if self._listener.error is None:  # else it would wait for the other hosts
      self._checkpointer.close()
      self._open.close()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: Any, *_: object) -> None:
    alone = jax.process_count() == 1
    if kind is None or alone:
      self.close()
    else:  # the other hosts may never reach this save
      self._listener.close()


def _policy(keep: int, every: int, best: Mapping[int, float] | None) -> Any:
  """Keeps what any of the parts keeps."""
  policies = ocp.training.preservation_policies
  parts: list[Any] = [policies.LatestN(keep)]
  if every:
    parts.append(policies.EveryNSteps(every))
  if best is not None:
    parts.append(Best(best))
  return policies.AnyPreservationPolicy(parts)


def completed_steps(folder: Path) -> list[int]:
  """Steps with a complete checkpoint in a folder, ascending.

  A folder that does not exist has none. Nothing is written.
  """
  reduce_logging()
  names = ocp.path.step.standard_name_format()
  return sorted(entry.step for entry in names.find_all(os.fspath(folder)))


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
      `jax.eval_shape` returns it. Arrays get its shardings; one without a
      sharding goes to the first device of this host.
    step: of the checkpoint; by default the last.
    partial: whether the checkpoint may have arrays that `abstract` does not
      have, such as an optimiser's.

  Returns:
    the tree with arrays.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    CheckpointError: if `abstract` differs from the checkpoint in the name,
      shape or dtype of an array (then nothing is read), or if the checkpoint is
      damaged.
  """
  path = _path_of(folder, step)
  wanted = by_name(jax.tree.map(placed, abstract))
  stored = check(path)
  if differs := first_difference(wanted, stored, partial):
    raise CheckpointError(
      f'the checkpoint {path} does not fit this config. The first array that '
      f'differs is {differs}'
    )
  arrays = _load(path, wanted, partial)
  return jax.tree.unflatten(
    jax.tree.structure(abstract), [arrays[name] for name in wanted]
  )


def check(path: pathlib.Path) -> Mapping[str, Any]:
  """Compares the checksums of a checkpoint; returns its arrays, abstractly.

  Raises:
    CheckpointError: if a file is damaged or missing.
  """
  with _Reading(path) as plain:
    if summed := (plain / CHECKSUMS).exists():
      check_checksums(plain, (jax.process_index(), jax.process_count()))
    metadata = ocp.metadata(str(plain), checkpointable_name=ITEM)
    if not summed and SUMMED in (metadata.custom_metadata or {}):
      raise ValueError(f'{plain / CHECKSUMS} is missing')
    if (stored := metadata.metadata) is None:
      raise ValueError('the list of its arrays is damaged')
  return stored


def _load(
  path: pathlib.Path, wanted: Mapping[str, Any], partial: bool
) -> Mapping[str, Any]:
  context = ocp.Context()
  context.pytree.loading.partial_load = partial
  with _Reading(path) as plain, context:
    return ocp.load(str(plain), wanted, checkpointable_name=ITEM)


class _Reading:
  """The plain path of a checkpoint, which is named in any error.

  Truncated files raise errors of many classes, even a bare Exception.
  """

  def __init__(self, path: pathlib.Path):
    self.path = self.plain = path
    self._open = contextlib.ExitStack()

  def __enter__(self) -> pathlib.Path:
    folder = self._open.enter_context(plain_path(self.path.parent))
    self.plain = folder / self.path.name
    return self.plain

  def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
    self._open.close()
    if isinstance(error, Exception):
      why = _first_line(error).replace(str(self.plain), str(self.path))
      raise CheckpointError(
        f'the checkpoint {self.path} cannot be read, a file in it is damaged '
        'or missing: remove that folder to resume from the checkpoint before '
        f'it. ({type(error).__name__}: {why})'
      ) from error


def _parts(arrays: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
  """The arrays in parts of some AT_ONCE bytes."""
  part: dict[str, Any] = {}
  for name, leaf in arrays.items():
    part[name] = leaf
    if sum(x.nbytes for x in part.values()) >= AT_ONCE:
      yield part
      part = {}
  if part:
    yield part


def _is_of_jax(error: BaseException | None) -> bool:
  """Whether JAX raised it; Orbax wraps it, in words of many kinds."""
  while error and not isinstance(error, jax.errors.JaxRuntimeError):
    error = error.__cause__
  return error is not None


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
