"""What a stage that is trained further makes of the later ones.

A stage refers to earlier ones by `frozen`, `init_from`, `resume`, `teacher`,
`guides`, `pairs` and a `dataset` of latents. One that has begun with the
weights of an earlier stage cannot continue with others: when that stage is
trained on, it has to start again.
"""

import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import NoReturn

from flowdistill.config.bind import ConfigError, Spec, join
from flowdistill.config.kinds import TRAIN
from flowdistill.config.sections import STUDENT
from flowdistill.config.stages import TEACHER
from flowdistill.datasets.pairs import MANIFEST, read_manifest
from flowdistill.stages.blueprints import Blueprints, latents_source
from flowdistill.training.checkpoint import completed_steps
from flowdistill.workdir.folders import (
  CHECKPOINTS,
  CONFIG,
  PAIRS,
  source_folder,
)
from flowdistill.workdir.lock import LOCK
from flowdistill.workdir.record import base_key, recorded_references
from flowdistill.workdir.weights import has_checkpoint


def outdated(blueprints: Blueprints, chosen: Collection[str]) -> dict[str, str]:
  """The stages that have to start again -> why, in order.

  Args:
    blueprints: of all stages of the run.
    chosen: those that are about to run.
  """
  ends = {name: _end(blueprints, name, chosen) for name in blueprints.trained}
  changed = {
    name: f'config.{join(blueprints.where(name), "train")}: {name} would be '
    f'trained on from step {last} to {end}, and others began with it at {last}'
    for name, (last, end) in ends.items()
    if last is not None and last < end
  }
  found = {}
  for name in blueprints:
    earlier = [r for r in references(blueprints, name) if r in blueprints]
    whys = [changed[r] for r in earlier if r in changed]
    if not whys and name in chosen:
      whys = list(_mismatches(blueprints, name, ends))
    if whys:
      changed.setdefault(name, whys[0])
      if _has_begun(blueprints, name):
        found[name] = whys[0]
  return found


def references(blueprints: Blueprints, name: str) -> list[str]:
  """The stages of this run that a stage refers to, each once."""
  workdir, found = blueprints.workdir, []
  folders = {
    place.resolve(): other
    for other in blueprints.before(name)
    for place in (blueprints.folder(other), blueprints.folder(other) / PAIRS)
  }
  for source in _sources(blueprints.specs[name]):
    found.append(folders.get(source_folder(source, workdir).resolve()))
  return [other for other in dict.fromkeys(found) if other is not None]


def refuse(stages: Mapping[str, str]) -> NoReturn:
  """Raises the ConfigError that names the stages that have to start again."""
  names, why = ', '.join(stages), next(iter(stages.values()))
  raise ConfigError(
    f'{why}: {names} would have to start again. Nothing was changed. Take the '
    'old length or another --workdir, or add --set_aside (--job=train), which '
    f'renames the folder of each of them, {next(iter(stages))} to '
    f'{next(iter(stages))}.old-1, and trains them again'
  )


def set_aside(folder: pathlib.Path) -> pathlib.Path:
  """Renames the locked folder of a stage to FOLDER.old-N, the first free N."""
  n = 1
  while os.path.lexists(place := folder.with_name(f'{folder.name}.old-{n}')):
    n += 1
  os.rename(folder, place)
  (place / LOCK).unlink(missing_ok=True)
  return place


def _sources(spec: Spec) -> Iterator[str]:
  """The sources of the weights and the pairs that a stage takes."""
  learners = [spec, *spec.get('roles', {}).values()]
  starts = [learner.get('init_from') for learner in learners]
  others = [*spec.get('frozen', {}).values(), *spec.get('guides', {}).values()]
  frozen = [spec.get('teacher'), *others]
  yield from (r['source'] for r in [*starts, *frozen] if r is not None)
  yield from (spec[k] for k in ('pairs', 'resume') if spec.get(k) is not None)
  if (latents := latents_source(spec['dataset'])) is not None:
    yield latents


def _end(
  blueprints: Blueprints, name: str, chosen: Collection[str]
) -> tuple[int | None, int]:
  """The last step that a stage has, and that at which this run leaves it."""
  last = max(
    completed_steps(blueprints.folder(name) / CHECKPOINTS), default=None
  )
  total = blueprints[name].total if name in chosen else 0
  return last, max(last or 0, total)


def _mismatches(
  blueprints: Blueprints, name: str, ends: dict[str, tuple[int | None, int]]
) -> Iterator[str]:
  """Where the weights that a stage has recorded will not be there."""
  for source, origin in _recorded(blueprints, name).items():
    folder = source_folder(source, blueprints.workdir).resolve()
    for other, (_, end) in ends.items():
      here = blueprints.folder(other).resolve() == folder
      if (
        here and end and not f'{origin},'.startswith(f'{source} at step {end},')
      ):
        yield f'{name} began with {origin!r}, and {other} is at step {end} now'


def _recorded(blueprints: Blueprints, name: str) -> dict[str, str]:
  """Source of frozen weights -> their origin, of a stage that has begun."""
  spec, folder = blueprints.specs[name], blueprints.folder(name)
  if not _has_begun(blueprints, name) or not (folder / CONFIG).is_file():
    return {}
  if spec['job'] != TRAIN:
    manifest = read_manifest(folder / PAIRS)
    was = {TEACHER: manifest.get(TEACHER), **manifest.get('guides', {})}
    frozen = {TEACHER: spec[TEACHER], **spec['guides']}
  else:
    was, frozen = recorded_references(folder), {**spec['frozen'], **bases(spec)}
  return {
    reference['source']: was[role]
    for role, reference in frozen.items()
    if reference and was.get(role)
  }


def bases(spec: Spec) -> dict[str, Spec]:
  """Key in the record -> reference of the base of each LoRA of a stage."""
  learners = {STUDENT: spec, **spec['roles']}
  return {
    base_key(name): own['init_from']
    for name, own in learners.items()
    if own['lora']
  }


def _has_begun(blueprints: Blueprints, name: str) -> bool:
  """Whether a stage has made anything that is worth keeping."""
  folder = blueprints.folder(name)
  return has_checkpoint(folder) or (folder / PAIRS / MANIFEST).is_file()
