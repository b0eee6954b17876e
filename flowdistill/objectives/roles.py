"""The networks that an objective may call, by role."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self


class Objective(Protocol):
  """objective(nets, batch, key, step) -> (loss [b], metrics)."""

  def __call__(
    self, nets: Any, batch: Any, key: Any, step: Any, /
  ) -> tuple[Any, dict[str, Any]]: ...


@dataclasses.dataclass(frozen=True)
class View:
  """A network that learns: a callable, at parameters that can be replaced.

  Attributes:
    call: call(params, *inputs), the inputs being those of its signature.
    params: its parameters.
    signature: see `training/roles.py`.
    started: whether it is being updated yet; an array where that depends on
      the step.
    features: features(params, *inputs) -> the answer, and the features of a
      hidden layer; None if it has none.
  """

  call: Callable[..., Any]
  params: Any
  signature: str = 'average'
  started: Any = True
  features: Callable[..., tuple[Any, Any]] | None = None

  def __call__(self, *inputs: Any) -> Any:
    """The network's answer."""
    return self.call(self.params, *inputs)

  def aligned(self, *inputs: Any) -> tuple[Any, Any]:
    """The network's answer, and the features of a hidden layer.

    Raises:
      ValueError: if it has none.
    """
    if self.features is None:
      raise ValueError('this network makes no features of a hidden layer')
    return self.features(self.params, *inputs)

  def at(self, params: Any) -> 'View':
    """The same network at other parameters."""
    return dataclasses.replace(self, params=params)


ANSWERS = {
  'student': 'average',
  'ema': 'average',
  'teacher': 'velocity',
  'weak': 'velocity',
  'discriminator': 'logits',
  'perceptual': 'distance',
  'features': 'features',
}
"""Name of a role -> the signature by which objectives call it."""


SOURCE = "'stage:NAME' or a run's folder"


class MissingRole(AttributeError):
  """An objective calls a role that the config does not fill."""

  def __init__(self, role: str, filled: Iterable[str], source: str = ''):
    """Says how to fill `role`; `source` is what 'frozen.ROLE' may be set to."""
    fix = f"'frozen.{role}' to {source or SOURCE}"
    if role == 'ema':
      fix = "'ema.main' to keep EMA weights of the student"
    elif ANSWERS.get(role) == 'logits':
      fix = f"'roles.{role}' to train it beside the student"
    elif role not in ANSWERS and not source:
      fix += f", or train it as 'roles.{role}'"
    super().__init__(
      f'this objective asks for nets.{role}, and the config fills only '
      f'{sorted(filled)}: set {fix}'
    )


class Roles(dict[str, Callable[..., Any]]):
  """role -> callable, read as attributes: `nets.student`, `nets.teacher`.

  `student` and `ema`, with the student's EMA weights, are average velocities
  u(x_t, t, s, cond), `teacher` and `weak` are velocities v(x_t, t, cond),
  `perceptual` is a distance between images, perceptual(x, y, resize) -> [b],
  `discriminator` gives logits, D(x, cond) -> [b], and `features` those of
  examples, features(x) -> [b, h, w, d].

  The objective of every role that learns, such as a critic, gets all roles of
  the stage. Only the parameters of its own role are differentiated.
  """

  def having(self, **networks: Callable[..., Any]) -> Self:
    """The same record, with some of its roles replaced."""
    new = self.__class__.__new__(self.__class__)
    new.update(self)
    new.__dict__.update(self.__dict__)
    new.update(networks)
    return new

  def __missing__(self, role: str) -> Callable[..., Any]:
    raise MissingRole(role, self)

  def __getattr__(self, role: str) -> Callable[..., Any]:
    return self[role]
