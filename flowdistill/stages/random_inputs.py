"""Weights and batches that are drawn, for what depends on shapes alone."""

import math
from typing import Any

import jax
import numpy as np

from flowdistill.build.blueprint import Blueprint
from flowdistill.flow.spec import LABEL
from flowdistill.training.roles import Params


def draw_weights(wanted: Params, seed: int) -> Params:
  """Normal, of variance 1 / (4 inputs); zeros would hide earlier layers."""
  rng = np.random.default_rng(seed)

  def draw(w: jax.ShapeDtypeStruct) -> np.ndarray:
    scale = (4 * math.prod(w.shape[:-1])) ** -0.5
    return (scale * rng.standard_normal(w.shape)).astype(w.dtype)

  return jax.tree.map(draw, wanted)


def draw_batch(blueprint: Blueprint, seed: int) -> dict[str, Any]:
  """A batch of the shapes that a train step gets, whole on every host.

  Images and other numbers are normal, labels uniform, and masks true.
  """
  rng = np.random.default_rng(seed)
  abstract, sees = blueprint.batch(), blueprint.sees

  def draw(x: jax.ShapeDtypeStruct) -> np.ndarray:
    normal = np.asarray(rng.standard_normal(x.shape))
    return (normal if x.dtype != bool else normal < np.inf).astype(x.dtype)

  batch = jax.tree.map(draw, abstract)
  n = len(batch['x0'])
  if sees.num_classes:
    label = rng.integers(sees.num_classes, size=n)
    batch['cond'][LABEL] = label.astype(batch['cond'][LABEL].dtype)
  return {**batch, 'null': sees.null(batch['cond'])}
