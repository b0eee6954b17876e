"""Weights of a trained stage in files of other programs."""

import dataclasses
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.foreign import converter
from flowdistill.build.lora_files import (
  DIFFUSERS,
  KOHYA,
  check_base,
  is_factor,
  write_lora_file,
)
from flowdistill.build.pipelines import Pipeline, write_for_diffusers
from flowdistill.build.snapshots import write_snapshot
from flowdistill.build.weights import Weights, weights_in_stage
from flowdistill.config.sections import Reference
from flowdistill.files.atomic import naming
from flowdistill.files.flax_tree import write_flax
from flowdistill.files.safetensors_writing import write_safetensors
from flowdistill.training.named_arrays import by_name
from flowdistill.workdir import weights
from flowdistill.workdir.weights import Trained

MERGED, LORA = 'merged', 'lora'
DIALECTS = {LORA: DIFFUSERS, 'kohya': KOHYA}
"""What is written of a LoRA alone -> the dialect of its file."""
FORMS = (MERGED, *DIALECTS)


def _save_npz(path: pathlib.Path, arrays: Any) -> None:
  with path.open('wb') as file:  # NumPy would add .npz to the name
    np.savez(file, **arrays)


SAFETENSORS, FLAX, FOLDER = '.safetensors', '.msgpack', ''
WRITERS = {
  SAFETENSORS: write_safetensors,
  '.npz': _save_npz,
  FLAX: write_flax,
}
"""End of a name -> what writes such a file."""


@dataclasses.dataclass(frozen=True)
class Export:
  """What is written.

  Attributes:
    weights: those of the stage: ema, params, the name of an EMA, or power:0.1.
    form: one of `FORMS`; a LoRA is written merged with its base, or alone.
    like: a snapshot of which a copy is written; None writes none.
    pipeline: that is written with the network; None writes it alone.
  """

  weights: str = 'ema'
  form: str = MERGED
  like: pathlib.Path | None = None
  pipeline: Pipeline | None = None


def write(blueprint: Blueprint, to: pathlib.Path, export: Export) -> int:
  """Writes the weights of a trained stage, with the names of PyTorch.

  Args:
    blueprint: of the stage.
    to: a file, whose end says its format, or without an end a folder of
      diffusers.
    export: what is written.

  Returns:
    the step of the weights.

  Raises:
    ValueError: if there are no rules for the network, its weights are not
      finite, or the file has no place for some of them.
  """
  name, folder = blueprint.learns[0], blueprint.folder
  if export.pipeline is not None:
    export.pipeline.check(blueprint.spec['network'])
  reference = Reference(str(folder), export.weights)
  abstract = weights_in_stage(reference, blueprint)
  part = to.with_name(f'{to.name}.part')
  part.parent.mkdir(parents=True, exist_ok=True)
  with naming(part):
    if export.form == MERGED:
      trained = weights.load(name, abstract)
      _write_whole(part, blueprint, trained, export)
    else:
      trained = _write_factors(part, blueprint, abstract, export.form)
  part.replace(to)
  return trained.step


def _write_whole(
  part: pathlib.Path,
  blueprint: Blueprint,
  trained: Trained,
  export: Export,
) -> None:
  network = blueprint.spec['network']
  rules = converter(network['name'])
  arrays = jax.device_get(by_name(trained.params))
  theirs = rules.to_torch(arrays, blueprint.sees.shape[0], network=network)
  suffix = pathlib.Path(part.stem).suffix
  if suffix == FLAX:
    theirs = rules.in_flax(theirs)
  check_finite(theirs, blueprint.folder)
  if export.like is not None:
    write_snapshot(export.like, part, rules, network, theirs)
  elif suffix == FOLDER:
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted conversion
    write_for_diffusers(part, network, theirs, export.pipeline)
  else:
    WRITERS[suffix](part, theirs)


def check_finite(
  arrays: Mapping[str, np.ndarray], folder: pathlib.Path
) -> None:
  """Raises ValueError naming an array with numbers that are not finite."""
  for name, array in arrays.items():
    if not np.isfinite(array).all():
      raise ValueError(f'{name} of {folder} has numbers that are not finite')


def _write_factors(
  part: pathlib.Path, blueprint: Blueprint, abstract: Weights, form: str
) -> Trained:
  check_factors(blueprint)
  name = blueprint.learns[0]
  trained = weights.load(name, abstract, merge=False)
  learnt = by_name(blueprint.learners[name].model.params)
  arrays = by_name(trained.params)  # of the base, only the shapes are needed
  factors = {path: jax.device_get(arrays[path]) for path in learnt}
  check_finite(factors, blueprint.folder)
  network = blueprint.spec['network']['name']
  lora = blueprint.stage.learners[name].lora
  whole = {**arrays, **factors}
  write_lora_file(part, network, whole, lora.scale, DIALECTS[form])
  return trained


def check_factors(blueprint: Blueprint) -> None:
  """Checks that the factors alone are the student, beside its base.

  Raises:
    ValueError: if it was trained without LoRA, or diffusers has no class for
      the network, or no place for some of the arrays.
  """
  name = blueprint.learns[0]
  model = blueprint.learners[name].model
  if model.plain is None:
    raise ValueError(
      f'config.{blueprint.key("lora")} = None must be set: this stage was '
      'trained without LoRA. Take --as=merged'
    )
  shapes = {n: x.shape for n, x in by_name(model.plain.params).items()}
  check_base(blueprint.spec['network']['name'], shapes)
  if full := [n for n in by_name(model.params) if not is_factor(n)]:
    raise ValueError(
      f'config.{blueprint.key("lora.full")} must be empty: {", ".join(full)} '
      'learn beside the factors, and a file of LoRA has no place for them. '
      'Take --as=merged'
    )
