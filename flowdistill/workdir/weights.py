"""Reads weights from a checkpoint or a file, with their origin."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import jax

from flowdistill.build.ema_snapshots import power_of
from flowdistill.build.foreign import digest_of, file_of, read_weights
from flowdistill.build.models import Model
from flowdistill.build.weights import Weights, weights_of
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.training import checkpoint
from flowdistill.training.named_arrays import by_name
from flowdistill.training.roles import Params, Role
from flowdistill.training.rounding import cast
from flowdistill.training.sharding import Layout
from flowdistill.training.state import RoleState
from flowdistill.workdir.ema_snapshots import reconstruct
from flowdistill.workdir.folders import CHECKPOINTS
from flowdistill.workdir.record import base_key, recorded_references


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A network with its weights.

  Attributes:
    model: the network.
    params: its weights.
    origin: the source with its step or digest, to distinguish it from others.
    step: of the checkpoint, 0 for a file.
  """

  model: Model
  params: Params
  origin: str
  step: int = 0


def load(
  role: str,
  weights: Weights,
  layout: Layout | None = None,
  step: int | None = None,
  *,
  merge: bool = True,
  base: Trained | None = None,
) -> Trained:
  """Reads only the weights that a reference names, by default at the last step.

  Without a layout they are placed on the first device.

  Args:
    role: the role that they are for.
    weights: abstractly.
    layout: of all devices.
    step: of the checkpoint.
    merge: whether those of LoRA are merged with their base, in float32;
      otherwise they are as they were trained, and so is the network.
    base: of LoRA, if it is already there.

  Raises:
    ConfigError: if there is no such checkpoint, or the base of LoRA is another
      one than when it was trained.
  """
  home = layout
  if layout is not None:
    home = home_of(weights.reference, layout)
  if weights.published is not None:
    return _load_published(weights, home)
  if weights.stage is None:
    return _load_file(role, weights, layout)
  found = _load_checkpoint(weights, layout, step, merge=merge, base=base)
  if home is None or home is layout:
    return found
  there = jax.device_put(found.params, home.shardings(found.params))
  return dataclasses.replace(found, params=there)


def home_of(reference: Reference, layout: Layout) -> Layout:
  """Where the weights that a reference names are to be.

  Raises:
    ConfigError: if they are to be in the memory of the hosts, and the devices
      cannot read it.
  """
  if not reference.offload:
    return layout
  try:
    return layout.on_host()
  except ValueError as error:
    raise ConfigError(
      f'{reference.source}: offload = True must be False: {error}'
    ) from error


def _load_file(role: str, weights: Weights, layout: Layout | None) -> Trained:
  source, dtype = weights.reference.source, weights.reference.dtype
  params = read_weights(role, source)
  place = layout.shardings(params) if layout else None
  params = cast(jax.device_put(params, place), dtype)
  origin = f'{source} of sha256 {digest_of(file_of(role, source))}'
  return Trained(weights.model, params, origin)


def _load_published(weights: Weights, layout: Layout | None) -> Trained:
  reference, found = weights.reference, weights.published
  try:
    params = found.load(reference.dtype, layout)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  origin = f'{reference.source} of sha256 {found.digest}'
  return Trained(weights.model, params, origin)


def _load_checkpoint(
  weights: Weights,
  layout: Layout | None,
  step: int | None,
  *,
  merge: bool,
  base: Trained | None,
) -> Trained:
  reference, stage = weights.reference, weights.stage
  role, folder = reference.role, stage.folder / CHECKPOINTS
  name, _ = weights_of(stage, reference)
  if step is None:
    step = max(checkpoint.completed_steps(folder), default=0)
  emas = [name] if isinstance(name, str) else power_of(stage, role)
  wanted = _only(stage.state.roles[role], emas)
  wanted = layout.abstract(wanted) if layout else wanted
  try:
    tree = {'roles': {role: wanted}}
    restored = checkpoint.restore(folder, tree, step, partial=True)
  except FileNotFoundError as error:
    raise ConfigError(f'{reference.source}: {error}') from error
  state = restored['roles'][role]
  if isinstance(name, float):
    spelled = f'{reference.source}: weights = {reference.weights!r}'
    own = state.emas
    params = reconstruct(stage, role, name, step, own, layout, spelled)
  else:
    params = state.params if name == 'params' else state.emas[name]
  origin = f'{reference.source} at step {step}'
  row, model = stage.learners[role], weights.model
  if row.base is not None:
    base = base or load(role, stage.weights(role), layout)
    check_base(stage, role, base.origin)
    params = row.model.whole(params, base.params)
    if not merge:
      return Trained(row.model, params, origin, step)
    place = layout.shardings(model.params) if layout else None
    params = jax.jit(row.model.merged, out_shardings=place)(params)
  return Trained(model, cast(params, reference.dtype), origin, step)


def check_base(stage: Any, role: str, origin: str) -> None:
  """Refuses other frozen weights than those that a role's LoRA was trained on.

  Raises:
    ConfigError: naming both.
  """
  key = reference_key(role, stage.learners[role])
  was = recorded_references(stage.folder).get(key, origin)
  if was != origin:
    raise ConfigError(
      f'{stage.folder}: the base of its LoRA was {was}, and is now {origin}: '
      'the factors are of no use to other weights'
    )


def reference_key(name: str, role: Role) -> str:
  """The key of the origin of a role's frozen weights in the record."""
  return name if role.learns is None else base_key(name)


def _only(state: RoleState, names: Iterable[str]) -> RoleState:
  """The part of a role's state that has the weights of these names."""
  if 'params' in names:
    return RoleState(state.params, {}, {})
  return RoleState({}, {}, {name: state.emas[name] for name in names})


def matching(fresh: Params, loaded: Params) -> dict[str, Any]:
  """The arrays of `loaded` that `fresh` has too, by name, of the same shape."""
  ours, theirs = by_name(fresh), by_name(loaded)
  return {
    name: array
    for name, array in theirs.items()
    if name in ours and ours[name].shape == array.shape
  }


def take_matching(fresh: Params, loaded: Params) -> Params:
  """`fresh`, with its arrays replaced by those of `loaded` that match."""
  taken = matching(fresh, loaded)
  leaves = [taken.get(name, leaf) for name, leaf in by_name(fresh).items()]
  return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def has_checkpoint(folder: pathlib.Path) -> bool:
  """Whether a stage's folder has a complete checkpoint."""
  return bool(checkpoint.completed_steps(folder / CHECKPOINTS))
