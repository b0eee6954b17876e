"""EMAs with the profile of a power function, and any length of them afterwards.

  ema(n) = ∫ θ(τ) τ^γ dτ / ∫ τ^γ dτ over 0 ≤ τ ≤ n,

where θ(τ) are the parameters of update ⌈τ⌉. The standard deviation of τ under
this weight is a constant share of n, the relative width σ_rel:

  σ_rel² = (γ + 1) / ((γ + 2)² (γ + 3))

An EMA that was not tracked is a linear combination of snapshots of those that
were: that whose profile is nearest to the wanted one, by least squares.

Source: Karras et al., "Analyzing and Improving the Training Dynamics of
Diffusion Models" (EDM2, 2024), https://arxiv.org/abs/2312.02696, section 3 and
appendix C. Imports NumPy and JAX only; times may have any unit.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

POWER = 'power:'  # before the σ_rel of weights that are named by it
NARROWEST, WIDEST = 1e-6, 12**-0.5  # σ_rel; that of γ = 0, the mean of all
FEW = 256  # updates up to which a profile is taken as its share of each
NEGLIGIBLE = 1e-9  # a coefficient that changes no digit of float32


@dataclasses.dataclass(frozen=True)
class Profile:
  """The weights of past parameters in an EMA.

  Attributes:
    sigma_rel: the relative width, in [1e-6, 0.2886].
    time: at which the EMA was read, above 0, such as a number of updates.

  Raises:
    ValueError: if one of them is out of range.
  """

  sigma_rel: float
  time: float

  def __post_init__(self) -> None:
    check_sigma_rel(self.sigma_rel)
    if not 0 < self.time < float('inf'):
      raise ValueError(f'time = {self.time} must be above 0, and finite')

  @property
  def gamma(self) -> float:
    """The exponent γ."""
    return gamma_of(self.sigma_rel)


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """EMA weights that were stored.

  Attributes:
    profile: of these weights.
    load: reads them, a tree of floating-point arrays.
  """

  profile: Profile
  load: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Fit:
  """A linear combination of profiles.

  Attributes:
    coefficients: float64 [n], of sum 1.
    residual: distance to the wanted profile in L², as a share of its norm.
  """

  coefficients: np.ndarray
  residual: float


def check_sigma_rel(sigma_rel: float) -> None:
  """Raises ValueError if no power function has this relative width."""
  if not NARROWEST <= sigma_rel < WIDEST:
    raise ValueError(
      f'sigma_rel = {sigma_rel} must lie between {NARROWEST} and '
      f'{WIDEST:.4f}, the width of the mean of all parameters so far'
    )


def power_name(sigma_rel: float) -> str:
  """'power:0.1', the name of the EMA weights of this relative width.

  Raises:
    ValueError: if it is out of range.
  """
  check_sigma_rel(sigma_rel)
  return f'{POWER}{float(sigma_rel)}'


def sigma_rel_in(name: str) -> float | None:
  """The relative width in 'power:0.1'; None in a name of another form.

  Raises:
    ValueError: if it is no number, or out of range.
  """
  if not name.startswith(POWER):
    return None
  text = name.removeprefix(POWER)
  try:
    sigma_rel = float(text if text.isascii() else '')
  except ValueError:
    raise ValueError(
      f'{name!r} must be {POWER} and a relative width, such as {POWER}0.1'
    ) from None
  check_sigma_rel(sigma_rel)
  return sigma_rel


def gamma_of(sigma_rel: float) -> float:
  """The exponent γ > 0 of a relative width.

  It is the largest root of γ³ + 7 γ² + (16 − σ_rel⁻²) γ + 12 − σ_rel⁻².

  Raises:
    ValueError: if there is none.
  """
  check_sigma_rel(sigma_rel)
  inverse = float(sigma_rel) ** -2
  roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
  return float(roots.real.max())


def sigma_rel_of(gamma: float) -> float:
  """The relative width of τ^γ, γ ≥ 0."""
  return ((gamma + 1) / (gamma + 3)) ** 0.5 / (gamma + 2)


def products(one: Sequence[Profile], other: Sequence[Profile]) -> np.ndarray:
  """∫ p_i(τ) q_j(τ) dτ of normalised profiles p_i, q_j, float64 [n, m].

  With p's time the earlier one it is
  (γ_p + 1) (γ_q + 1) / (γ_p + γ_q + 1) · (t_p / t_q)^γ_q / t_q.
  """
  g, t = (x[:, None] for x in _columns(one))
  h, u = _columns(other)
  ratio = np.minimum(t, u) / np.maximum(t, u)
  inside = ratio ** np.where(t < u, h, g)
  return (g + 1) * (h + 1) / (g + h + 1) * inside / np.maximum(t, u)


def _columns(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
  """(γ, time), float64 [n] each."""
  gammas = [profile.gamma for profile in profiles]
  times = [profile.time for profile in profiles]
  return np.array(gammas, np.float64), np.array(times, np.float64)


def shares(profiles: Sequence[Profile]) -> np.ndarray | None:
  """The share of each update in EMAs, float64 [updates, n].

  None where times are no numbers of updates, or updates are more than FEW.
  """
  gammas, times = _columns(profiles)
  if max(times) > FEW or any(times % 1):
    return None
  ends = np.arange(max(times) + 1)[:, None]
  return np.diff(np.minimum(ends / times, 1) ** (gammas + 1), axis=0)


def fit(tracked: Sequence[Profile], wanted: Profile) -> Fit:
  """The combination of tracked profiles that is nearest to the wanted one.

  As in the code of EDM2, the least-squares solution is divided by its sum, so
  that parameters that were constant stay so. Few updates are summed one by
  one, as their profiles have steps.

  Raises:
    ValueError: if no tracked profile is of a time up to the wanted one.
  """
  return fit_each(tracked, [wanted])[0]


def fit_each(
  tracked: Sequence[Profile], wanted: Sequence[Profile]
) -> list[Fit]:
  """`fit` of several wanted profiles, which share a decomposition."""
  latest = min((profile.time for profile in wanted), default=0)
  if all(profile.time > latest for profile in tracked):
    raise ValueError(f'there is no EMA of a time up to {latest:g}')
  n, both = len(tracked), [*tracked, *wanted]
  if (steps := shares(both)) is not None:
    norms = np.linalg.norm(steps, axis=0)
    units = steps / norms
    x = np.linalg.lstsq(units[:, :n], units[:, n:], rcond=None)[0]
    gram = units.T @ units
  else:  # in units of their norms, which differ by orders of magnitude
    gram = products(both, both)
    norms = np.sqrt(np.diag(gram))
    gram = gram / np.outer(norms, norms)
    x = np.linalg.lstsq(gram[:n, :n], gram[:n, n:], rcond=None)[0]
  x = x * norms[n:] / norms[:n, None]
  x = x / x.sum(0)
  return [
    _fit(tracked, each, x[:, i], gram, norms, n + i)
    for i, each in enumerate(wanted)
  ]


def _fit(
  tracked: Sequence[Profile],
  wanted: Profile,
  c: np.ndarray,
  gram: np.ndarray,
  norms: np.ndarray,
  at: int,
) -> Fit:
  """The fit of coefficients c; of a tracked profile, this profile itself."""
  n = len(tracked)
  if wanted in tracked:
    return Fit(1.0 * (np.arange(n) == tracked.index(wanted)), 0.0)
  y = c * norms[:n] / norms[at]
  square = 1 - 2 * y @ gram[:n, at] + y @ gram[:n, :n] @ y
  return Fit(c, float(np.sqrt(max(0.0, square))))


def reconstruct(
  snapshots: Iterable[Snapshot], wanted: Profile
) -> tuple[Any, float]:
  """EMA weights of any length at any time, from snapshots of others.

  One snapshot is read at a time, beside the sum. What changes nothing is not
  read: the snapshot of the wanted profile itself is returned as it is.

  Args:
    snapshots: of one network, in any order.
    wanted: profile.

  Returns:
    the tree of float32 arrays, NumPy's or JAX's with their sharding, and the
    residual of `Fit`.

  Raises:
    ValueError: see `fit`; and what `load` raises.
  """
  snapshots = list(snapshots)
  found = fit([each.profile for each in snapshots], wanted)
  return combine(snapshots, found), found.residual


def combine(snapshots: Iterable[Snapshot], found: Fit) -> Any:
  """The sum of snapshots by the coefficients of a fit; see `reconstruct`."""
  total = None
  for c, each in zip(found.coefficients, snapshots, strict=True):
    if abs(c) > NEGLIGIBLE:
      total = _added(total, each.load(), np.float32(c))
  return total


def _added(total: Any, tree: Any, c: np.float32) -> Any:
  if total is None:
    return jax.tree.map(lambda x: c * x.astype(np.float32), tree)
  return jax.tree.map(lambda a, x: a + c * x.astype(np.float32), total, tree)
