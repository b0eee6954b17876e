"""The space of a stage: which it is, and whether it is that of its data."""

import contextlib
from collections.abc import Mapping
from typing import Any

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError, located
from flowdistill.config.protocols import Dataset, Space
from flowdistill.config.resolve import resolve
from flowdistill.config.stage_specs import differences
from flowdistill.training.json_files import jsonable
from flowdistill.workdir.record import (
  recorded_references,
  weights_of_space,
  without_local,
)


def check_space(blueprint: Blueprint) -> None:
  """Reads the weights of a space, and compares it with that of a cache.

  Raises:
    ConfigError: if they cannot be read, or the latents of the data set are
      others.
  """
  key = blueprint.key('space')
  with located(key):
    blueprint.space.check()
  data = blueprint.data
  if data.record.pictures is None or data.is_recorded:
    return
  manifest = with_new_options(data.manifest)
  about = about_space(blueprint)
  was = {name: manifest.get(name) for name in about}
  if lines := differences(was, jsonable(about)):
    raise ConfigError(
      f'config.{key} must be the space of the latents in '
      f'config.{blueprint.key("dataset")}: {"; ".join(lines)}'
    )


def check_recorded_space(blueprint: Blueprint) -> None:
  """The weights of the space must be those by which a stage was trained.

  Raises:
    ConfigError: if the file at the path of the config is another one now, or
      cannot be read.
  """
  was = recorded_references(blueprint.folder).get('space')
  if was is None:
    return
  key = blueprint.key('space')
  with located(key):
    digest = blueprint.space.digest()
  if digest is not None and was != weights_of_space(digest):
    raise ConfigError(
      f'config.{key} must have the weights of the training, {was}, and has '
      f'{weights_of_space(digest)}'
    )


def about_space(blueprint: Blueprint) -> dict[str, Any]:
  """What a manifest says of a space, to distinguish it from others."""
  spec, space = blueprint.spec['space'], blueprint.space
  plain = space.moments is None  # stored as the network sees it
  return {
    'space': without_local(spec),
    'weights_sha256': space.digest(),
    'scale': 1.0 if plain else space.scale,
    'shift': 0.0 if plain else space.shift,
  }


def with_new_options(manifest: Mapping[str, Any]) -> dict[str, Any]:
  """A manifest in which options that are newer than it have their defaults."""
  new = dict(manifest)
  with contextlib.suppress(ConfigError):  # which is not of this version
    space = resolve(manifest['space'], Space, 'space', ROOMS)
    new['space'] = jsonable(without_local(space))
    if data := manifest.get('dataset'):
      config = resolve(data['config'], Dataset, 'dataset', ROOMS)
      new['dataset'] = {**data, 'config': jsonable(config)}
  return new
