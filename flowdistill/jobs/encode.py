"""`--job=encode`: writes the latents of images, for the data set `latents`.

Stages of the config that encode have their own keys; otherwise the options
apply, to the data set and the space of a stage that trains:

  python -m flowdistill.main --config C --workdir W --job=encode \
    --config.space="{'name': 'kl', 'path': 'vae.safetensors'}"

The latents of image i are a function of the image and of (seed, i), and a shard
is written atomically: after an interruption the job continues, to the same
bytes, on one host or on several.
"""

import dataclasses
import pathlib
import re

from flowdistill.build.tables import bind_stage, resolve_stage
from flowdistill.config.bind import ConfigError, Spec, suggest
from flowdistill.config.kinds import ENCODE
from flowdistill.config.stages import EncodeStage
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.encoding import encode, encode_stage
from flowdistill.stages.hosts import watch
from flowdistill.stages.job_options import path_of
from flowdistill.workdir.folders import LATENTS
from flowdistill.workdir.lock import locked

KEYS = ('sample', 'flips', 'seed', 'dtype', 'shard_size')


@dataclasses.dataclass(frozen=True)
class Options:
  """The images, and what is stored of them. See also `EncodeStage`.

  Attributes:
    stage: a stage that encodes, without other options, or one that trains; by
      default all that encode, or else the last stage.
    out: folder of the latents; by default W/<stage>/latents.
  """

  stage: str = ''
  sample: bool = EncodeStage.sample
  flips: bool = EncodeStage.flips
  seed: int = EncodeStage.seed
  dtype: str = EncodeStage.dtype
  shard_size: int = EncodeStage.shard_size
  out: str = ''


def only_encoding(blueprints: Blueprints, options: Options) -> Blueprints:
  """The stages that this job runs, before any other stage is looked at.

  A stage that trains becomes one that encodes its data set.

  Raises:
    ConfigError: if there is no such stage, or an option has no effect.
  """
  specs = blueprints.specs
  makers = [name for name, spec in specs.items() if spec['job'] == ENCODE]
  names = [options.stage] if options.stage else makers or [*specs][-1:]
  (name, *_) = names
  if name not in specs:
    raise ConfigError(f'--stage={name} does not exist; {suggest(name, specs)}')
  workdir = blueprints.workdir
  if name in makers:
    if options != Options(stage=options.stage):
      raise ConfigError(
        f'stage {name!r} encodes by its own keys: set those, as in '
        f'--config.stages.{name}.flips=true'
      )
    chosen = {name: specs[name] for name in names}
    return Blueprints(chosen, workdir, recorded=False)
  spec = spec_of(specs[name], options)
  folder = blueprints.folder(name)
  return Blueprints({name: spec}, workdir, recorded=False, home=folder)


def spec_of(spec: Spec, options: Options) -> Spec:
  """The config of a stage that encodes the data set of another stage."""
  kept = {key: spec[key] for key in ('dataset', 'space', 'hosts')}
  values = {key: getattr(options, key) for key in KEYS}
  resolved = resolve_stage({'job': ENCODE, **kept, **values})
  try:
    bind_stage(resolved)
  except ConfigError as error:
    own = rf'^config\.({"|".join(KEYS)})\b'
    raise ConfigError(re.sub(own, r'--\1', str(error))) from error
  return resolved


def run(blueprints: Blueprints, options: Options) -> list[pathlib.Path]:
  """Encodes the images, and returns the folders of the latents.

  Args:
    blueprints: of `only_encoding`.
    options: see there.

  Raises:
    ConfigError: if a folder has other latents, or another job writes to it.
  """
  folders = []
  with watch(blueprints.specs, blueprints.workdir) as dog:
    for name in blueprints:
      if blueprints.home is None:
        with locked(blueprints.folder(name), 'encode'):
          folders.append(encode_stage(blueprints, name, dog))
        continue
      out = path_of('out', options.out) if options.out else None
      folder = out or blueprints.folder(name) / LATENTS
      folders.append(encode(blueprints[name], folder, dog))
  return folders
