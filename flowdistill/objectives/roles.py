"""The networks that an objective may call, by role."""

from collections.abc import Callable, Iterable
from typing import Any


class MissingRole(AttributeError):
  """An objective calls a role that the config does not fill."""

  def __init__(self, role: str, filled: Iterable[str], source: str = ''):
    """Says how to fill `role`; `source` is what 'frozen.ROLE' may be set to."""
    source = source or (
      f"'stage:NAME' or a run's folder, or train it as 'roles.{role}'"
    )
    fix = f"'frozen.{role}' to {source}"
    if role == 'ema':
      fix = "'ema.main' to keep EMA weights of the student"
    super().__init__(
      f'this objective asks for nets.{role}, and the config fills only '
      f'{sorted(filled)}: set {fix}'
    )


class Roles(dict[str, Callable[..., Any]]):
  """role -> callable, read as attributes: `nets.student`, `nets.teacher`.

  `student` and `ema`, with the student's EMA weights, are average velocities
  u(x_t, t, s, cond), `teacher` and `weak` are velocities v(x_t, t, cond),
  `perceptual` is a distance between images, perceptual(x, y, resize) -> [b].

  The objective of every role that learns, such as a critic, gets all roles of
  the stage. Only the parameters of its own role are differentiated.
  """

  def __getattr__(self, role: str) -> Callable[..., Any]:
    if role not in self:
      raise MissingRole(role, self)
    return self[role]
