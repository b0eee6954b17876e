"""Pictures of the paths from noise to data, and of their straightness."""

import pathlib
from collections.abc import Iterator

import numpy as np

from flowdistill.evaluators.canvas import COLOURS, MUTED, new_figure, save
from flowdistill.evaluators.mosaic import strips
from flowdistill.evaluators.pictures import are_points
from flowdistill.evaluators.signature import Data, Gauge, Model, Models, Row
from flowdistill.evaluators.states import check_role, columns, states
from flowdistill.evaluators.sweep import check_samples

COLUMNS = 9  # times at which the images of a path are shown


def paths(
  models: Models,
  source: Data,
  features: Gauge | None,
  folder: pathlib.Path,
  *,
  role: str = 'student',
  steps: int = 32,
  shown: int = 8,
  samples: int = 256,
  guidance: float = 1.0,
  seed: int = 0,
) -> Iterator[Row]:
  """Draws samples/<role>_paths.png and samples/<role>_straightness.png.

  The first has a row for each path z_t of the velocity u(x, t, t), from noise
  on the left to data on the right; paths of points in the plane are lines. The
  second is E‖(z1 − z0) − ż_t‖² over t; its integral is `straightness`.

  Source: Liu, Gong, Liu, "Flow Straight and Fast" (2022),
  https://arxiv.org/abs/2209.03003, the measure S(Z) of straightness.

  Args:
    models: role -> model.
    source: of the conditions and the shape.
    features: not used.
    folder: of the stage.
    role: of the model.
    steps: of Euler's method, one call each.
    shown: paths in the picture; paths of points are all shown.
    samples: number of paths, at least 2.
    guidance: the scale that a network is conditioned on, if it takes one.
    seed: of the noise.

  Raises:
    ValueError: if an option is out of range, or such examples have no picture.
  """
  del features
  check_role(role, models)
  check_samples(samples)
  are_points(source.spec.shape)
  for name, value in (('steps', steps), ('shown', shown)):
    if value < 1:
      raise ValueError(f'{name} = {value} must be at least 1')

  def rows() -> Iterator[Row]:
    model, ones = models[role], np.ones(samples)
    x1, cond = states(model, source, ones, seed, guidance)
    z, v = trajectories(model, x1, cond, steps)
    over_t = deviation(z, v)
    pictures = folder / 'samples'
    seen = np.stack([model.to_pictures(x) for x in z])
    draw_paths(pictures / f'{role}_paths.png', seen, shown)
    draw_straightness(pictures / f'{role}_straightness.png', over_t)
    yield {
      **columns(role, guidance),
      'steps': steps,
      'samples': samples,
      'seed': seed,
      'straightness': float(over_t.mean()),
    }

  return rows()


def trajectories(
  model: Model, x1: np.ndarray, cond: dict[str, np.ndarray], steps: int
) -> tuple[np.ndarray, np.ndarray]:
  """z [steps + 1, n, ...], from t = 1 to 0, and ż [steps, n, ...]."""
  z, v, h = [x1.astype(np.float64)], [], 1 / steps
  for k in range(steps):
    t = np.full(len(x1), 1 - k * h)
    v.append(np.asarray(model.ask(z[-1], t, t, cond), np.float64))
    z.append(z[-1] - h * v[-1])
  return np.stack(z), np.stack(v)


def deviation(z: np.ndarray, v: np.ndarray) -> np.ndarray:
  """E‖(z1 − z0) − ż_t‖² at each step, [steps]."""
  squares = np.square(z[0] - z[-1] - v).reshape(*v.shape[:2], -1)
  return squares.sum(-1).mean(-1)


def draw_paths(path: pathlib.Path, z: np.ndarray, shown: int) -> None:
  """Images in rows from noise to data, or points as lines."""
  if z.ndim == 5:
    columns = np.linspace(0, len(z) - 1, COLUMNS).round().astype(int)
    times = [f'{1 - k / (len(z) - 1):.2f}' for k in columns]
    strips(path, z[columns, :shown].swapaxes(0, 1), headings=times)
    return
  figure = new_figure(5, 5)
  ax = figure.add_axes((0, 0, 1, 1))
  ax.plot(z[..., 0], z[..., 1], color=MUTED, linewidth=0.4, alpha=0.5)
  for at, colour in ((0, COLOURS[0]), (-1, COLOURS[1])):
    ax.scatter(*z[at].T, s=6, color=colour, zorder=3)
  ax.set_aspect('equal')
  ax.axis('off')
  save(figure, path)


def draw_straightness(path: pathlib.Path, over_t: np.ndarray) -> None:
  """The deviation over t, noise on the left."""
  figure = new_figure(5, 3.2)
  ax = figure.add_axes((0.16, 0.17, 0.8, 0.76))
  ax.plot(1 - np.arange(len(over_t)) / len(over_t), over_t, color=COLOURS[1])
  ax.invert_xaxis()
  ax.set_ylim(bottom=0)
  ax.set_xlabel('t, from noise to data')
  ax.set_ylabel('E‖(z₁ − z₀) − ż‖²')
  for side in ('top', 'right'):
    ax.spines[side].set_visible(False)
  save(figure, path)
