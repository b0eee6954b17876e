"""What a run leaves when a number is not finite, and running it again."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from flowdistill.build.models import Model, make_apply
from flowdistill.stages.assembly import Assembly, abstract_state
from flowdistill.training import checkpoint
from flowdistill.training.checkpoint import Checkpoints
from flowdistill.training.json_files import write_json
from flowdistill.training.loop import NotFinite
from flowdistill.training.replay import Watch, first_not_finite, module_kinds

FAILURE = 'failure'


class Halted(RuntimeError):
  """A job stopped because of what it found; the message says where."""


def report(assembly: Assembly, error: NotFinite) -> Halted:
  """Saves state and batch in W/<stage>/failure, and replays the step."""
  folder = assembly.blueprint.folder / FAILURE
  with Checkpoints(folder / 'state', keep=1) as saved:
    saved.save(error.step, error.state)
  if jax.process_index() == 0:
    _save_batch(folder, error)
  return Halted(
    f'{replay(assembly)}. The state before that step and its batch are in '
    f'{folder}; --job=replay runs it again. The last checkpoint is untouched.'
  )


def replay(assembly: Assembly) -> str:
  """Runs the failed step again: 'step 7: first not finite is ...'.

  Raises:
    FileNotFoundError: if no step of this stage has failed.
  """
  blueprint = assembly.blueprint
  folder = blueprint.folder / FAILURE
  if not (folder / 'failure.json').is_file():
    raise FileNotFoundError(f'no step has failed here: no {folder}')
  step = json.loads((folder / 'failure.json').read_text())['step']
  stage = blueprint.stage
  state = checkpoint.restore(folder / 'state', abstract_state(assembly))
  watch = Watch()
  roles = {
    name: dataclasses.replace(role, model=WatchedModel(role.model, watch, name))
    for name, role in blueprint.roles.items()
  }
  kinds = set().union(
    *(module_kinds(r.model.graph, r.model.params) for r in roles.values())
  )
  where = first_not_finite(
    roles,
    state,
    assembly.frozen,
    _load_batch(folder),
    jax.random.key(stage.seed),
    watch,
    kinds,
    stage.train.drop_cond,
    stage.train.flip,
  )
  return f'step {step}: the first that is not finite is {where}'


@dataclasses.dataclass(frozen=True)
class WatchedModel:
  """A model whose modules are watched as those of a role."""

  model: Model
  watch: Watch
  role: str

  @property
  def graph(self) -> Any:
    """Of the network."""
    return self.model.graph

  @property
  def params(self) -> Any:
    """Abstract parameters."""
    return self.model.params

  def apply(self, *args: Any, **kwargs: Any) -> Any:
    """As that of the model."""
    see = self.watch.role(self.role)
    return make_apply(self.model.graph, see)(*args, **kwargs)


def _save_batch(folder: pathlib.Path, error: NotFinite) -> None:
  flat = {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in jax.tree.leaves_with_path(error.batch)
  }
  np.savez(folder / 'batch.npz', **flat)
  write_json(folder / 'failure.json', {'step': error.step})


def _load_batch(folder: pathlib.Path) -> dict:
  batch: dict = {'cond': {}, 'null': {}}
  with np.load(folder / 'batch.npz') as arrays:
    for name, array in arrays.items():
      *outer, key = name.split('.')
      (batch[outer[0]] if outer else batch)[key] = array
  return batch
