"""TwinFlow's five kinds of training example, drawn at random by weights.

  e2e  a jump from noise to data, t = 1 and s = 0
  mul  multi-step sampling, s = t or just below it
  any  a jump to any s below t
  one  a jump to the data, s = 0
  adv  the twin: the model's own samples, at times (−t, −t)

Source: Cheng et al., "TwinFlow: Realizing One-step Generation on Large Models
with Self-adversarial Flows" (2025), https://arxiv.org/abs/2512.05150, and its
code, which splits each batch, of at least four, into such parts.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from flowdistill.flow.times import TimeLaw

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kinds:
  """Relative frequencies of the kinds; 0 is never.

  Raises:
    ValueError: if a weight is negative or not finite, or all are 0.
  """

  e2e: float = 1.0
  mul: float = 1.0
  any: float = 1.0
  adv: float = 1.0
  one: float = 0.0

  def __post_init__(self) -> None:
    for name, weight in dataclasses.asdict(self).items():
      if not 0 <= weight < math.inf:
        raise ValueError(f'{name} = {weight} must be at least 0, and finite')
    if not sum(dataclasses.astuple(self)):
      raise ValueError(
        'the weights of the kinds are all 0; one must be above 0'
      )

  def share(self, *names: str) -> float:
    """The probability that an example is of one of the named kinds."""
    weights = dataclasses.asdict(self)
    return sum(weights[name] for name in names) / sum(weights.values())

  def draw(self, key: Array, n: int) -> dict[str, Array]:
    """Kind -> whether each example is of that kind, bool [n]."""
    names = [field.name for field in dataclasses.fields(self)]
    shares = jnp.array([self.share(name) for name in names])
    drawn = jax.random.choice(key, len(names), (n,), p=shares)
    return {name: drawn == i for i, name in enumerate(names)}


def times_of(
  key: Array,
  kind: dict[str, Array],
  law: TimeLaw,
  consistency_ratio: float,
  multi_gap: float,
) -> tuple[Array, Array]:
  """(t [n], s [n]) of every example, 0 <= s <= t <= 1; adv has s = t.

  Args:
    key: random key.
    kind: as `Kinds.draw` returns it.
    law: distribution of t.
    consistency_ratio: the longest jump of `any`, as a fraction of t.
    multi_gap: likewise for `mul`, where it is less.

  Raises:
    ValueError: if one of these is outside [0, 1].
  """
  shares = {'consistency_ratio': consistency_ratio, 'multi_gap': multi_gap}
  for name, value in shares.items():
    if not 0 <= value <= 1:
      raise ValueError(f'{name} = {value} must lie in [0, 1]')
  key_t, key_s = jax.random.split(key)
  n = len(kind['e2e'])
  t = jnp.where(kind['e2e'], 1.0, law(key_t, n))
  longest = jnp.where(kind['mul'], min(shares.values()), consistency_ratio)
  share = longest * jax.random.uniform(key_s, (n,))
  share = jnp.where(kind['e2e'] | kind['one'], 1.0, share)
  return t, t * (1 - jnp.where(kind['adv'], 0.0, share))
