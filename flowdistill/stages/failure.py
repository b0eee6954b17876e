"""Saves a step with a non-finite number, and replays it."""

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from flowdistill.evaluators.signature import Row
from flowdistill.files.atomic import replacing
from flowdistill.files.json_reader import fields, read_json, refuse
from flowdistill.files.npz import read_npz
from flowdistill.stages.assembly import Assembly, abstract_state
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.json_files import write_json
from flowdistill.training.loop import NotFinite
from flowdistill.training.replay import Watch, first_not_finite, module_kinds
from flowdistill.workdir.folders import FAILURE


class Halted(RuntimeError):
  """A job stopped because of a result that is named in the message."""


class Unmeasured(Halted):
  """Something could not be measured, or only that it diverged.

  Attributes:
    rows: what was measured before, or beside it; to be written.
  """

  def __init__(self, message: str, rows: Sequence[Row]):
    super().__init__(message)
    self.rows = list(rows)


def report(assembly: Assembly, error: NotFinite) -> Halted:
  """Saves state and batch in W/<stage>/failure, and replays the step."""
  folder = assembly.blueprint.folder / FAILURE
  with Checkpoints(folder / 'state', keep=1) as saved:
    saved.save(error.step, error.state)
  if jax.process_index() == 0:
    _save_batch(folder, error)
  return Halted(
    f'{replay(assembly)}. The state before that step and its batch are in '
    f'{folder}; --job=replay runs it again. The last checkpoint is unchanged.'
  )


def replay(assembly: Assembly) -> str:
  """Replays the failed step: 'step 7: the first that is not finite is ...'.

  Raises:
    FileNotFoundError: if no step of this stage has failed.
  """
  blueprint = assembly.blueprint
  folder = blueprint.folder / FAILURE
  if not (folder / 'failure.json').is_file():
    raise FileNotFoundError(f'{folder} does not exist: no step has failed')
  path = folder / 'failure.json'
  step = fields(read_json(path), {'step': int}, path)['step']
  train = blueprint.stage.train
  state = checkpoint.restore(folder / 'state', abstract_state(assembly))
  watch = Watch()
  roles = {
    name: dataclasses.replace(
      role, model=dataclasses.replace(role.model, watch=watch.role(name))
    )
    for name, role in blueprint.roles.items()
  }
  models = [role.model for role in roles.values()]
  where = first_not_finite(
    roles,
    state,
    assembly.frozen,
    _load_batch(folder),
    jax.random.key(blueprint.stage.seed),
    watch,
    set().union(*(module_kinds(m.graph, m.complete) for m in models)),
    train.drop_cond,
    train.flip,
  )
  return f'step {step}: the first that is not finite is {where}'


def _save_batch(folder: pathlib.Path, error: NotFinite) -> None:
  flat = {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in jax.tree.leaves_with_path(error.batch)
  }
  with replacing(folder / 'batch.npz') as file:
    np.savez(file, **flat)
  write_json(folder / 'failure.json', {'step': error.step})


def _load_batch(folder: pathlib.Path) -> dict:
  batch: dict = {'cond': {}, 'null': {}}
  path = folder / 'batch.npz'
  try:
    arrays = read_npz(path, list)
  except ValueError as error:
    refuse(path, f'is damaged: {error}', error)
  for name, array in arrays.items():
    *outer, key = name.split('.')
    (batch[outer[0]] if outer else batch)[key] = array
  return batch
