"""What EDM's U-Nets share: a network inside of a preconditioning.

The output is a velocity (see `edm_preconditioning.py`); with `time='edm'` they
are the published teachers, whose weights `convert/edm.py` reads. A student may
start from them with `time='linear'`, which embeds t itself, and whose
derivative in time is bounded; the embedding must then be aligned with the
teacher's first.

Source: Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (2022), https://arxiv.org/abs/2206.00364, table 7;
`time='linear'` as Sabour et al., "Align Your Flow" (2025),
https://arxiv.org/abs/2506.14603.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
from flax import nnx

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2_layers import forced
from flowdistill.networks.edm2_times import TIMES
from flowdistill.networks.edm_preconditioning import (
  SIGMAS,
  coefficients,
  noise_level,
)
from flowdistill.networks.edm_times import EDMTimes
from flowdistill.networks.embeddings import (
  OneHot,
  ScaledOneHot,
  conditioned,
  make_scalars,
)
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.precision import upcast
from flowdistill.networks.ranges import check_choices, check_sizes
from flowdistill.networks.unet_layers import BlockConfig, conv3
from flowdistill.networks.unet_levels import make_run
from flowdistill.networks.unet_pyramids import head
from flowdistill.networks.unet_trunk import (
  attentive,
  heights,
  make_trunk,
  run_trunk,
)

Array = jax.Array
AUGMENT = 'augment'  # a condition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """What EDM's networks have in common; the options of the same names.

  Attributes:
    name: of the network in a config.
    nf, res_blocks, ch_mult, attention, noise_mult: sizes.
    precond, sigma_data, time, augment_dim: of the preconditioning.
    kind: of the embedding, see `EDMTimes`.
    progressive_input, progressive: see `make_trunk`.
  """

  name: str
  nf: int
  res_blocks: int
  ch_mult: tuple[int, ...]
  attention: tuple[int, ...]
  noise_mult: int = 1
  precond: str
  sigma_data: float
  time: str
  augment_dim: int
  kind: str
  progressive_input: str = 'none'
  progressive: str = 'none'

  def check(self, spec: DataSpec, options: NetworkOptions) -> None:
    """Raises ValueError naming what is out of range, or not taken."""
    takes = (AUGMENT,) if self.augment_dim else ()
    options.check_conditions(spec, self.name, takes)
    check_sizes(
      nf=self.nf, res_blocks=self.res_blocks, noise_mult=self.noise_mult
    )
    check_choices(
      precond=(self.precond, tuple(SIGMAS)), time=(self.time, TIMES)
    )
    if not 0 < self.sigma_data < float('inf'):
      raise ValueError(f'sigma_data = {self.sigma_data} must be above 0')
    if self.augment_dim < 0:
      raise ValueError(f'augment_dim = {self.augment_dim} must be at least 0')
    if AUGMENT in spec.cond and AUGMENT not in options.scalars:
      shape = spec.cond[AUGMENT].shape
      if shape != (self.augment_dim,):
        raise ValueError(
          f'augment_dim = {self.augment_dim} must be the length of the '
          f'condition {AUGMENT!r}, whose shape is {list(shape)}'
        )


class Preconditioned(nnx.Module):
  """A U-Net inside of a preconditioning.

  Args:
    spec: of the data, of shape (h, w, c); 2 ** (levels - 1) divides h and w.
    sizes: its options.
    config: of its blocks.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range, or the spec has a condition that
      the network does not take.
  """

  signature: ClassVar[str] = 'average'

  def __init__(
    self,
    spec: DataSpec,
    sizes: Sizes,
    config: BlockConfig,
    options: NetworkOptions,
    rngs: nnx.Rngs,
  ):
    sizes.check(spec, options)
    attend = attentive(heights(spec.shape, sizes.ch_mult), sizes.attention)
    self.sizes, self.remat = sizes, options.remat
    features, e = sizes.nf * sizes.noise_mult, config.embedding
    self.times = EDMTimes(
      features,
      e,
      kind=sizes.kind,
      max_frequency=options.max_frequency,
      rngs=rngs,
    )
    self.label = self.make_label(spec.num_classes, features, e, rngs)
    self.augment = (
      nnx.Linear(
        sizes.augment_dim,
        features,
        use_bias=False,
        kernel_init=nnx.initializers.zeros,
        rngs=rngs,
      )
      if sizes.augment_dim
      else None
    )
    self.scalars = make_scalars(options, e, rngs=rngs)
    widths, channels = [sizes.nf * m for m in sizes.ch_mult], spec.shape[-1]
    first = widths[0] if config.kind == 'adm' else sizes.nf
    # iDDPM's has a variance too.
    self.channels = channels
    answers = channels * (2 if sizes.precond == 'iddpm' else 1)
    self.first = conv3(channels, first, rngs=rngs)
    self.down, self.middle, self.up = make_trunk(
      widths,
      config,
      first=first,
      image=channels,
      output=answers,
      blocks=sizes.res_blocks,
      attend=attend,
      progressive_input=sizes.progressive_input,
      progressive=sizes.progressive,
      rngs=rngs,
    )
    self.last = (
      None
      if sizes.progressive == 'output_skip'
      else head(widths[0], answers, config, zero=True, rngs=rngs)
    )

  def make_label(
    self, num_classes: int, features: int, e: int, rngs: nnx.Rngs
  ) -> nnx.Module | None:
    """The embedding of the label, None without classes."""
    if not num_classes:
      return None
    if self.sizes.kind == 'adm':
      return OneHot(num_classes, e, rngs=rngs)
    return ScaledOneHot(num_classes, features, rngs=rngs)

  def __call__(
    self,
    x_t: Array,
    t: Array,
    s: Array,
    cond: Mapping[str, Array],
    *,
    key: Array | None = None,
  ) -> Array:
    """x_t [b, h, w, c], t, s, `cond['label']`, scalars [b] -> [b, h, w, c].

    With `augment_dim`, `cond['augment']` [b, augment_dim] may say how an image
    was augmented; without it, as where it is zero, it was not.
    """
    x_t, sizes = upcast(x_t), self.sizes
    run = make_run(nnx.silu(self.embedding(t, s, cond)), key, self.remat)
    a, b, c = (
      each[:, None, None, None]
      for each in coefficients(t, sizes.precond, sizes.sigma_data)
    )
    return a * x_t - b * self.output(c * x_t, run)

  def output(self, x: Array, run: Callable[..., Array]) -> Array:
    """The network inside, [b, h, w, c] -> the same."""
    trunk = self.down, self.middle, self.up
    h, image, _ = run_trunk(trunk, self.first(x), x, run)
    output = image if self.last is None else self.last(h)
    return output[..., : self.channels]

  def embedding(self, t: Array, s: Array, cond: Mapping[str, Array]) -> Array:
    """Of times and conditions, [b, e]; s starts without effect."""
    sizes, label = self.sizes, self.label
    level = noise_level(t, sizes.precond, sizes.time)
    features = self.times.features(level)
    if self.augment is not None and AUGMENT in cond:
      features = features + self.augment(upcast(cond[AUGMENT]))
    if isinstance(label, ScaledOneHot):
      features, label = features + label(cond['label']), None
    e = self.times(features, t, s)
    return conditioned(e, cond, label=label, scalars=self.scalars)

  @staticmethod
  def project(params: Any, before: Any) -> Any:
    """The parameters after an update, with their constants as before."""
    return forced(params, before)
