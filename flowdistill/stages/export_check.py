"""Checks what was written of a stage for diffusers, by running it there."""

import pathlib
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.build.diffusers_check import (
  Asked,
  Comparison,
  check_folder,
  check_installed,
  check_lora,
)
from flowdistill.build.pipelines import DISTILLED, embedded_guidance
from flowdistill.build.weights import weights_in_stage
from flowdistill.config.sections import Reference
from flowdistill.flow.spec import DataSpec
from flowdistill.stages.export import MERGED, Export, check_factors
from flowdistill.training.named_arrays import by_name
from flowdistill.workdir import weights

EXAMPLES = 2
SCALES = np.array([1.5, 4.0], np.float32)
TIMES = np.array([[0.9, 0.6], [0.2, 0.6]], np.float32)  # t and s


def check_possible(blueprint: Blueprint, export: Export) -> None:
  """Checks, before anything is written, that it can be checked.

  Raises:
    ValueError: without PyTorch, diffusers or PEFT, or if the student is not
      what a file of LoRA can say.
  """
  check_installed()
  if export.form != MERGED:
    check_factors(blueprint)


def check(blueprint: Blueprint, to: pathlib.Path, export: Export) -> Comparison:
  """Compares the answers of diffusers with ours at random points, in float32.

  Args:
    blueprint: of the stage.
    to: what was written: a folder of diffusers, or a file of LoRA.
    export: how.

  Raises:
    ValueError: if diffusers cannot load it, its answers differ from ours by
      more than 1e-3 of the largest number, or an update of a LoRA does.
  """
  name, spec = blueprint.learns[0], blueprint.spec['network']
  reference = Reference(str(blueprint.folder), export.weights)
  abstract = weights_in_stage(reference, blueprint)
  merged = weights.load(name, abstract).params
  asked = _asked(blueprint, merged)
  if export.form == MERGED:
    folder = export.pipeline.transformer(to) if export.pipeline else to
    return check_folder(folder, spec['name'], asked)
  trained = weights.load(name, abstract, merge=False)
  lora = blueprint.stage.learners[name].lora
  arrays = jax.device_get(by_name(trained.params))
  return check_lora(to, spec, arrays, lora.scale, asked)


def _asked(blueprint: Blueprint, params: Any) -> Asked:
  """Random inputs, and the answer of these weights."""
  name = blueprint.learns[0]
  model = blueprint.plain(name, dtype='float32', attention_form='plain')
  x, cond = drawn(blueprint.sees)
  network = blueprint.spec['network']
  cond |= dict.fromkeys(network['scalars'], SCALES)
  if (scale := embedded_guidance(network)) is not None:
    cond.setdefault(DISTILLED, np.full(EXAMPLES, scale, np.float32))
  two = network['target_time'] is not None
  t, s = TIMES[0], TIMES[int(two)]
  with jax.default_matmul_precision('highest'):
    ours = jax.jit(model.apply)(params, x, t, s, cond)
  return Asked(x, t, s, cond, np.asarray(ours))


def drawn(spec: DataSpec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Noise [EXAMPLES, ...], and noise for all conditions; masks are true."""
  rng = np.random.default_rng(0)

  def normal(shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal((EXAMPLES, *shape)).astype(np.float32)

  cond = {
    key: normal(each.shape)
    if np.issubdtype(each.dtype, np.floating)
    else np.ones((EXAMPLES, *each.shape), each.dtype)
    for key, each in spec.cond.items()
  }
  return normal(spec.shape), cond
