"""Muon: the momentum of a matrix, orthogonalised.

Its steps are those of `optax.contrib.muon`; here is said to which parameters
they belong: to all arrays that are called `kernel`, which are the matrices of
linear layers and of convolutions. A convolution is the matrix of all that it
sees to its output, and a stack of layers is one matrix for each. Everything
else (biases, embeddings, positions, gains, factors of LoRA) is left to Adam
with Nesterov's momentum (NAdam).
"""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from flowdistill.training.optim_ranges import check_decay, check_moments
from flowdistill.training.sharding import path_name

KERNEL = 'kernel'
RMS = 0.2  # of an update, over the rate: about that of Adam


def muon(
  schedule: optax.Schedule,
  *,
  momentum: float = 0.95,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Muon for kernels, Adam with Nesterov's momentum for all else.

  An update of a kernel has a root mean square of about 0.2 times the rate, as
  one of Adam has, so that one rate serves both.

  Args:
    schedule: of the rate.
    momentum: share of the momentum that is kept, in [0, 1); it is Nesterov's.
    b1: see `adam`, for all that is not a kernel.
    b2: the same.
    eps: the same.
    weight_decay: see `adamw`, for all parameters.

  Raises:
    ValueError: if a value is out of range.

  Source: Jordan et al., "Muon: An optimizer for hidden layers in neural
  networks" (2024), https://kellerjordan.github.io/posts/muon/; the size of an
  update: Liu et al., "Muon is Scalable for LLM Training" (2025),
  https://arxiv.org/abs/2502.16982, section 2.2.
  """
  check_moments(eps, momentum=momentum, b1=b1, b2=b2)
  check_decay(weight_decay)
  return optax.contrib.muon(
    schedule,
    beta=momentum,
    adam_b1=b1,
    adam_b2=b2,
    eps=eps,
    weight_decay=weight_decay,
    adam_weight_decay=weight_decay,
    consistent_rms=RMS,
    muon_weight_dimension_numbers=matrices,
  )


def matrices(params: Any) -> Any:
  """params -> how each kernel is a matrix, None for all else."""
  return jax.tree.map_with_path(_matrix, params)


def _matrix(path: Any, x: Any) -> MuonDimensionNumbers | None:
  if path_name(path).rpartition('.')[2] != KERNEL:
    return None
  first = x.ndim % 2  # past the axis of the layers of a stack
  return MuonDimensionNumbers((*range(first, x.ndim - 1),), x.ndim - 1)
