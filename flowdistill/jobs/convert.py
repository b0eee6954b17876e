"""`--job=convert`: PyTorch weights to a run, or weights of a run to a file.

  python -m flowdistill.main --config configs/slimflow/annealed.py:cifar10,15m \
    --job=convert --from=checkpoint_14.pth --to=runs/slim_15m
  python -m flowdistill.main --workdir runs/cifar10 \
    --job=convert --stage=flow --to=flow.safetensors
  python -m flowdistill.main --workdir runs/edm2_s \
    --job=convert --to=mine.pkl --like=edm2-img512-s-2147483-0.070.pkl

  python -m flowdistill.main --workdir runs/flux \
    --job=convert --as=lora --to=lora.safetensors
  python -m flowdistill.main --workdir runs/flux \
    --job=convert --pipeline=FLUX.1-dev --nfe=4 --to=flux_student

  python -m flowdistill.main --config configs/ayf/imagenet64.py --stage=flow \
    --job=convert --from=raw-snapshots/edm2-img64-s --ema=0.07 --to=runs/edm2_s

The first writes a run of the config's network, which can be sampled and used in
`init_from` and `frozen`; the pickle in a .pth is never executed. It needs only
the shape of the data, which most configs say (see `build/declared.py`). The
second writes the array names and the time convention of the original network;
with a name without an end, such as --to=transformer, it writes a folder that
diffusers loads.
With --check diffusers loads it, and its answers are compared with ours.
The third writes a copy of a snapshot in which the weights alone are others. The
fourth writes the factors of a LoRA, which diffusers loads onto its base. The
fifth writes a pipeline of diffusers whose other parts are those of a folder.
The sixth reconstructs an EMA of another length from the snapshots of EDM2's
training, one of which is in memory at a time.
"""

import dataclasses
import os
import pathlib

from flowdistill.build.data import DataRecord
from flowdistill.build.declared import declared
from flowdistill.build.hub import is_of_hub
from flowdistill.build.pipelines import Pipeline, fetched_base
from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.sampling import weights_of_ema
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.conversion import Conversion, convert, open_source
from flowdistill.stages.export import (
  FOLDER,
  FORMS,
  LORA,
  MERGED,
  SAFETENSORS,
  WRITERS,
  Export,
  write,
)
from flowdistill.stages.export_check import check, check_possible
from flowdistill.stages.job_options import path_of
from flowdistill.workdir.record import known_data
from flowdistill.workdir.results import say

CHECKED = (FOLDER, MERGED), (SAFETENSORS, LORA)  # end of a name, form
FILES = ('.pth', '.pt', '.ckpt', '.bin', '.npy', '.pkl', '.zip', '.tar', '.gz')


@dataclasses.dataclass(frozen=True)
class Options:
  """Source and destination.

  Attributes:
    stage: the stage of the network; by default the last one.
    from_: a file of weights, .pth, .pt, .pkl, .safetensors, .npz or .msgpack,
      or with `ema` a folder of snapshots of EDM2; without it, the stage's own
      weights are written.
    shape: with `from`, of the images, such as 32,32,3; by default that of the
      run or of the data set.
    classes: with `shape`, their number; 0 without labels.
    to: a new folder; or without `from` a new file, .safetensors, .npz or
      .msgpack, or with `like` .pkl; a name without an end is a folder that
      diffusers loads.
    as_: without `from`, of a stage with LoRA: merged with its base, or the
      factors alone, as `lora` for diffusers and ComfyUI, or in the dialect of
      `kohya`; these are .safetensors.
    check: whether diffusers loads the new folder, or the LoRA, and its answers
      are compared with ours; needs the extra `torch`.
    pipeline: without `from`, a folder of diffusers with the pipeline of the
      pretrained network, or hub:OWNER/NAME@COMMIT; `to` becomes one with the
      network of the stage.
    nfe: with `pipeline`, the number of jumps by default.
    guidance: with `pipeline`, the scale by default of a student that takes one.
    like: without `from`, a snapshot (.pkl) of the original network; the new
      file is a copy of it, with the weights of the stage in its numbers' types.
    weights: those of the stage to write: ema, params, the name of an EMA, or
      power:0.1 for the power EMA of that relative width.
    ema: a relative width: 0.1 is short for --weights=power:0.1; with `from`,
      that of the EMA to reconstruct from the snapshots.
    kimg: with `from` and `ema`, the time of that EMA in thousands of images, as
      in the name of a snapshot; by default that of the last.
  """

  stage: str = ''
  from_: str = ''
  shape: tuple[int, ...] = ()
  classes: int = 0
  to: str = ''
  weights: str = 'ema'
  ema: float | None = None
  kimg: int | None = None
  as_: str = MERGED
  check: bool = False
  like: str = ''
  pipeline: str = ''
  nfe: int | None = None
  guidance: float | None = None

  def __post_init__(self) -> None:
    if self.ema is not None:
      weights_in = weights_of_ema([self.ema])
      if not self.from_:
        object.__setattr__(self, 'weights', *weights_in)
    if not self.to:
      raise ConfigError('--to is missing: the folder, or the file, to write')
    self._check_effects()
    suffix = pathlib.Path(self.to).suffix
    self._check_form(suffix)
    if self.check and (self.from_ or (suffix, self.as_) not in CHECKED):
      raise ConfigError(
        f'--check needs a folder for diffusers, or --as={LORA}: --to={self.to} '
        'is not for diffusers'
      )
    if self.pipeline and self.from_:
      raise ConfigError(f'--pipeline={self.pipeline} has no effect with --from')
    if self.pipeline and suffix != FOLDER:
      raise ConfigError(
        f'--to={self.to} must be a folder, whose name has no end: with '
        f'--pipeline={self.pipeline} a pipeline is written'
      )
    for name, value in {'nfe': self.nfe, 'guidance': self.guidance}.items():
      if value is not None and not self.pipeline:
        raise ConfigError(
          f'--{name}={value} needs --pipeline, which records it'
        )
    if self.nfe is not None and self.nfe < 1:
      raise ConfigError(f'--nfe={self.nfe} must be at least 1')
    if self.like and suffix != '.pkl':
      raise ConfigError(
        f'--to={self.to} must end in .pkl: with --like it is a copy of '
        f'{self.like}'
      )
    if not self.from_ and not self.like and suffix not in (*WRITERS, FOLDER):
      raise ConfigError(
        f'--to={self.to} must end in {" or ".join(WRITERS)}: without --from '
        'a stage is written to a file, or without an end to a folder of '
        'diffusers; .pkl needs --like'
      )
    if self.from_ and suffix.lower() in (*FILES, *WRITERS):
      raise ConfigError(
        f'--to={self.to} must be a folder: with --from the weights become a '
        f'run; take --to={self.to.removesuffix(suffix)}. To write a file from '
        'a stage, leave out --from'
      )
    if os.path.lexists(path_of('to', self.to)):
      raise ConfigError(f'--to={self.to} must not exist; take another name')

  def _check_form(self, suffix: str) -> None:
    if self.as_ not in FORMS:
      raise ConfigError(
        f'--as={self.as_} must be one of {", ".join(FORMS)}; '
        f'{suggest(self.as_, FORMS)}'
      )
    if self.as_ == MERGED:
      return
    if self.from_ or self.like:
      other = '--from' if self.from_ else '--like'
      raise ConfigError(f'--as={self.as_} has no effect with {other}')
    if suffix != SAFETENSORS:
      raise ConfigError(
        f'--to={self.to} must end in {SAFETENSORS} with --as={self.as_}'
      )

  def _check_effects(self) -> None:
    if self.from_ and self.like:
      raise ConfigError(
        f'--like={self.like} has no effect with --from, which makes a run'
      )
    if self.from_ and self.weights != Options.weights:
      raise ConfigError(
        f'--weights={self.weights} has no effect with --from: the run gets the '
        'parameters and the EMA weights of the file'
      )
    if self.kimg is not None and (not self.from_ or self.ema is None):
      raise ConfigError(
        f'--kimg={self.kimg} needs --from, a folder of snapshots, and --ema'
      )
    if (self.shape and not self.from_) or (self.classes and not self.shape):
      raise ConfigError('--shape needs --from, and --classes needs --shape')
    if min((*self.shape, self.classes + 1)) < 1:
      raise ConfigError(
        f'--shape={",".join(map(str, self.shape))} --classes={self.classes} '
        'must be positive, such as --shape=32,32,3 --classes=10'
      )


def run(blueprints: Blueprints, options: Options) -> Conversion | None:
  """Writes a checkpoint, or a file.

  Raises:
    ConfigError: if there are no rules for the network, or the weights are of
      another one.
  """
  if not blueprints.trained:
    raise ConfigError('--job=convert: no stage of this config trains')
  name = options.stage or list(blueprints.trained)[-1]
  if name not in blueprints.trained:
    raise ConfigError(
      f'--stage={name} must be a stage that trains; '
      f'{suggest(name, blueprints.trained)}'
    )
  to = path_of('to', options.to)
  try:
    if options.from_:
      file = path_of('from', options.from_)
      source = open_source(file, options.ema, options.kimg)
      data = data_of(blueprints, name, options)
      conversion = convert(blueprints.specs[name], data, source, to)
      say(f'{conversion} {to}')
      return conversion
    like = path_of('like', options.like) if options.like else None
    pipeline = pipeline_of(options)
    export = Export(options.weights, options.as_, like, pipeline)
    if options.check:
      check_possible(blueprints[name], export)
    step = write(blueprints[name], to, export)
    folder = blueprints.folder(name)
    say(f'{options.weights} at step {step} of {folder} is in {to}')
    if options.check:
      say(str(check(blueprints[name], to, export)))
  except ValueError as error:
    raise ConfigError(f'--job=convert: {error}') from error
  return None


def pipeline_of(options: Options) -> Pipeline | None:
  """What `pipeline` asks for."""
  if not options.pipeline:
    return None
  source = options.pipeline
  of_hub = is_of_hub(source)
  base = fetched_base(source) if of_hub else path_of('pipeline', source)
  return Pipeline(base, options.nfe, options.guidance)


def data_of(blueprints: Blueprints, name: str, options: Options) -> DataRecord:
  """What is known of the data of a stage; they are opened if nothing is."""
  dataset = blueprints.specs[name]['dataset']
  if options.shape:
    return DataRecord(DataSpec.labelled(options.shape, options.classes), None)
  recorded = known_data(dataset, blueprints.folder(name))
  if known := recorded or declared(dataset):
    return known
  try:
    return blueprints[name].data.record
  except ValueError as error:
    raise ConfigError(
      f'{error}. Only the shape of the images is needed: --shape=32,32,3, and '
      '--classes=10 where they have classes'
    ) from error
