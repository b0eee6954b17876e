"""The networks that an objective may ask for, by role."""

from collections.abc import Callable
from typing import Any

PERCEPTUAL = 'perceptual'


class MissingRole(AttributeError):
  """An objective asks for a role that the config does not fill."""


class Roles(dict[str, Callable[..., Any]]):
  """role -> callable, read as attributes: `nets.student`, `nets.teacher`.

  `student` and `ema` are average velocities u(x_t, t, s, cond); `teacher` and
  `weak` are velocities v(x_t, t, cond). `perceptual` is a distance of images,
  perceptual(x, y, resize) -> [b].
  """

  def __getattr__(self, role: str) -> Callable[..., Any]:
    if role not in self:
      key = f'ema.{role}' if role == 'ema' else f'frozen.{role}'
      value = (
        ' to a file of LPIPS weights, .safetensors, .npz or .pth'
        if role == PERCEPTUAL
        else ", for a frozen network to a stage ('stage:flow') or to a run's "
        'folder'
      )
      raise MissingRole(
        f'this objective asks for nets.{role}, and the config fills only '
        f"{sorted(self)}: set '{key}'{value}"
      )
    return self[role]
