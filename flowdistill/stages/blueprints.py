"""The blueprints of a run's stages, and of the stages that they refer to."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from flax import nnx

from flowdistill.build.blueprint import Blueprint, make_blueprint
from flowdistill.build.data import Data, DataRecord, Expected
from flowdistill.build.declared import declared
from flowdistill.build.foreign import FILES, file_model
from flowdistill.build.models import Model, shape_model
from flowdistill.build.published import (
  Published,
  is_published,
  open_published,
)
from flowdistill.build.tables import ROOMS
from flowdistill.build.weights import (
  Weights,
  check_idle,
  in_dtype,
  weights_in_stage,
)
from flowdistill.config.bind import (
  ConfigError,
  Spec,
  bind,
  join,
  located,
  suggest,
)
from flowdistill.config.kinds import ENCODE, trained
from flowdistill.config.protocols import Dataset
from flowdistill.config.sections import Reference
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.datasets.captioned import spec_with_text
from flowdistill.datasets.texts import Text
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.space import about_space
from flowdistill.training.json_files import jsonable
from flowdistill.workdir import folders, record
from flowdistill.workdir.folders import LATENTS, STAGE
from flowdistill.workdir.weights import has_checkpoint

T = TypeVar('T')


class Blueprints(Mapping[str, Blueprint]):
  """Name of a stage -> its blueprint, which is made on first use.

  Args:
    specs: name -> resolved config.
    workdir: of the run.
    recorded: whether to take shapes and sizes from the data record of the run,
      or shapes from the config, instead of opening the data; False to train.
    home: the folder of the only stage, if another run refers to it.
  """

  def __init__(
    self,
    specs: Mapping[str, Spec],
    workdir: pathlib.Path,
    *,
    recorded: bool = True,
    home: pathlib.Path | None = None,
  ):
    self.specs, self.workdir = dict(specs), workdir
    self.recorded, self.home = recorded, home
    self._blueprints: dict[str, Blueprint] = {}
    self._elsewhere: dict[pathlib.Path, Blueprint] = {}
    self._data: dict[str, Data] = {}
    self._made: dict[Any, Any] = {}

  @classmethod
  def of_run(cls, workdir: pathlib.Path) -> 'Blueprints':
    """The blueprints of the stages that have begun in a workdir."""
    names = folders.stage_names(workdir)
    specs = {
      name: record.load_spec(folders.stage_folder(workdir, name))
      for name in names
    }
    return cls(specs, workdir)

  def __getitem__(self, name: str) -> Blueprint:
    if name not in self._blueprints:
      self._blueprints[name] = self._make(name)
    return self._blueprints[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self.specs)

  def __len__(self) -> int:
    return len(self.specs)

  def where(self, name: str) -> str:
    """The key of a stage in the config."""
    alone = self.home is not None or ONE_STAGE in self.specs
    return '' if alone else f'stages.{name}'

  def folder(self, name: str) -> pathlib.Path:
    """The folder of a stage."""
    return self.home or folders.stage_folder(self.workdir, name)

  @property
  def trained(self) -> dict[str, Spec]:
    """The stages that train networks, in order."""
    return trained(self.specs)

  def before(self, name: str) -> dict[str, Spec]:
    """The stages before one, in order."""
    return dict(itertools.takewhile(lambda s: s[0] != name, self.specs.items()))

  def stage_of(self, source: str, key: str, before: str = '') -> Blueprint:
    """The stage that 'stage:NAME' or a folder names.

    Args:
      source: of a reference.
      key: of the config, for errors.
      before: the stage of this run that refers to it, or ''.

    Raises:
      ConfigError: if it is neither an earlier stage nor a folder of a trained
        one.
    """
    earlier = {f'{STAGE}{n}': n for n in trained(self.before(before))}
    if source in earlier:
      return self[earlier[source]]
    unknown = source.startswith(STAGE) and self.home is None
    if unknown or (source in self.specs and not pathlib.Path(source).exists()):
      raise ConfigError(
        f'config.{key} = {source!r} must be an earlier stage that trains; '
        f'{suggest(source, earlier)}'
      )
    with naming(key):
      return self.at(source)

  def at(self, source: str) -> Blueprint:
    """The last stage that trains in a folder."""
    folder = folders.source_folder(source, self.workdir)
    folder = folders.last_stage(folder)
    specs = {folder.name: record.load_spec(folder)}
    if not has_checkpoint(folder):
      raise ConfigError(f'{folder} has no complete checkpoint')
    place = folder.resolve()
    if place not in self._elsewhere:
      others = Blueprints(specs, folder.parent, home=folder)
      self._elsewhere[place] = others[folder.name]
    return self._elsewhere[place]

  def weights(
    self, role: str, reference: Reference, key: str, before: str = ''
  ) -> Weights:
    """The weights that a reference names, abstractly; see `stage_of`.

    Raises:
      ConfigError: also for a LoRA that is to be merged with weights of a run.
    """
    published = role not in FILES and is_published(reference.source)
    if reference.lora is not None and not published:
      raise ConfigError(
        f'config.{key}.lora = {reference.lora!r} has no effect: the source, '
        f'{reference.source!r}, is no folder of diffusers, and no file of a '
        'published network'
      )
    if role in FILES:
      model = file_model(role)
      return Weights(reference, model, in_dtype(model.params, reference))
    if published:
      found = self._published(reference, key, before)
      params = in_dtype(found.model.params, reference)
      return Weights(reference, found.model, params, published=found)
    stage = self.stage_of(reference.source, key, before)
    with naming(key):
      return weights_in_stage(reference, stage)

  def _published(
    self, reference: Reference, key: str, before: str
  ) -> Published:
    """A published network, for the examples of a stage.

    Raises:
      ConfigError: also if the reference says which of several weights it has.
    """
    why = ': there is one network, with one set of weights'
    check_idle(reference, key, ('weights', 'role'), why)
    sees = self[before].sees
    made = ('published', reference, json.dumps(jsonable(sees.to_json())))
    return self.once(made, lambda: open_published(reference, sees, key))

  def once(self, key: Any, make: Callable[[], T]) -> T:
    """make(), or what it returned before for an equal key."""
    if key not in self._made:
      self._made[key] = make()
    return self._made[key]

  def _expected(
    self, source: str, dataset: Spec, before: str
  ) -> Expected | None:
    """The latents that an earlier stage writes; None of one of another run.

    Raises:
      ConfigError: if there is no such stage, or it does not write what is asked
        for.
    """
    if self.home is not None:
      return None
    earlier = {
      f'{STAGE}{name}': name
      for name, spec in self.before(before).items()
      if spec['job'] == ENCODE
    }
    key = join(self.where(before), 'dataset')
    if source not in earlier:
      raise ConfigError(
        f'config.{key}.path = {source!r} must be an earlier stage that '
        f'encodes; {suggest(source, earlier)}'
      )
    encode = self[earlier[source]]
    if dataset['flip'] and not encode.stage.flips:
      raise ConfigError(
        f'config.{key}.flip = True has no mirrored images: set '
        f'config.{encode.key("flips")} = True'
      )
    sees = encode.sees
    if dataset['text'] is not None:
      text = bind(dataset['text'], Text, f'{key}.text', ROOMS)
      captions = encode.data.captions(np.arange(len(encode.data)))
      with located(key, ['text']):
        sees = spec_with_text(sees, captions, text)[0]
    record = DataRecord(sees, len(encode.data), pictures=encode.data.spec.shape)
    return Expected(record, lambda: about_space(encode))

  def _make(self, name: str) -> Blueprint:
    spec, folder = self.specs[name], self.folder(name)

    def open_data(dataset: Spec, open_source: Callable[[], Any]) -> Data:
      text = json.dumps(jsonable(dataset), sort_keys=True)
      if text not in self._data:
        saved = expected = None
        if self.recorded:
          saved = record.known_data(dataset, folder) or declared(dataset)
        if (source := latents_source(dataset)) is not None:
          if saved is None:
            expected = self._expected(source, dataset, name)
          place = folders.source_folder(source, self.workdir) / LATENTS
          dataset = {**dataset, 'path': str(place)}
          key = join(self.where(name), 'dataset')
          open_source = bind(dataset, Dataset, key, ROOMS)
        self._data[text] = Data(open_source, saved, dataset, expected)
      return self._data[text]

    def refer(role: str, reference: Reference, key: str) -> Weights:
      return self.weights(role, reference, key, name)

    def shape(
      network: Spec, sees: DataSpec, make: Callable[[], nnx.Module]
    ) -> Model:
      key = json.dumps([jsonable(network), jsonable(sees.to_json())])
      return self.once(key, lambda: shape_model(make))

    return make_blueprint(
      name, spec, self.where(name), folder, open_data, refer, shape
    )


def latents_source(dataset: Spec) -> str | None:
  """'stage:NAME' of a data set of the latents of a stage; None of others."""
  path = dataset.get('path')
  of_stage = isinstance(path, str) and path.startswith(STAGE)
  return path if dataset['name'] == 'latents' and of_stage else None


@contextlib.contextmanager
def naming(key: str) -> Generator[None]:
  """Prefixes errors in its context with a key of the config."""
  try:
    yield
  except ValueError as error:
    raise ConfigError(f'config.{key}: {error}') from error
