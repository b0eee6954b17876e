"""Keys of `train` that have no effect on the data of a stage."""

from collections.abc import Iterable

from absl import logging

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.overrides import Override
from flowdistill.stages.blueprints import Blueprints

OFF = {'drop_cond': 0.0, 'flip': False}


def without_effect(blueprint: Blueprint) -> dict[str, str]:
  """Key of `train` that is set -> why it has no effect on this data."""
  train, spec = blueprint.stage.train, blueprint.data.spec
  why = {}
  if train.drop_cond and not spec.cond:
    why['drop_cond'] = 'this data set has no conditions to drop'
  if train.flip and train.data_free:
    why['flip'] = 'no picture is read, as train.data_free = True'
  if train.flip and len(spec.shape) != 3:
    why['flip'] = 'these examples are not images'
  if train.flip and blueprint.spec['space']['name'] != 'pixels':
    stored = blueprint.data.record.pictures
    why['flip'] = 'mirrored latents are not those of mirrored images' + (
      '; set flip of the data set in its place' if stored else ''
    )
  if train.flip and not blueprint.data.mirrors:
    why['flip'] = 'captions of this data set do not hold of mirrored pictures'
  return why


def without_idle_defaults(
  blueprints: Blueprints, overrides: Iterable[Override]
) -> Blueprints:
  """Sets to off what the config file sets without effect, and logs it.

  What the user typed is left, for the check of the stage to refuse, unless it
  is for all stages, and has an effect in another.
  """
  typed, specs = list(overrides), dict(blueprints.specs)
  idle = {
    name: without_effect(blueprints[name])
    for name, spec in blueprints.trained.items()
    if any(spec['train'][key] != off for key, off in OFF.items())
  }
  used = {
    key
    for name, whys in idle.items()
    for key, off in OFF.items()
    if specs[name]['train'][key] != off and key not in whys
  }
  for name, whys in idle.items():
    for key, why in whys.items():
      own = [o for o in typed if o.path[0] == 'stages' or key not in used]
      if any(sets(override, name, key) for override in own):
        continue
      specs[name] = {
        **specs[name],
        'train': {**specs[name]['train'], key: OFF[key]},
      }
      logging.info('%s: train.%s = %s, for %s', name, key, OFF[key], why)
  if specs == blueprints.specs:
    return blueprints
  return Blueprints(specs, blueprints.workdir, recorded=blueprints.recorded)


def sets(override: Override, stage: str, key: str) -> bool:
  """Whether an override sets a key of `train` in a stage, or a dict with it."""
  paths = ('train', key), ('stages', stage, 'train', key)
  return override.path in paths or any(
    path[: len(override.path)] == override.path and key in override.text
    for path in paths
  )
