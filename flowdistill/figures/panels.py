"""Panels of pictures with the sliders that choose among them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from flowdistill.figures.runs import Stage
from flowdistill.figures.sheets import NOTHING, SLIDERS, Picture, Webp, encode

MOST = 400  # pictures that are encoded
ALONE = 2**20  # a stride that leaves the last checkpoint alone
# (shrink, factor of the stride over checkpoints), the first that fits is used.
LADDER = (
  *((1, 1), (1, 2), (1, 4), (2, 4), (2, 8), (4, 8)),
  *((4, ALONE), (8, ALONE)),
)
TITLES = {  # of a slider, and in the title of a panel
  'step': ('Checkpoint (step)', 'step'),
  'nfe': ('NFE', 'NFE'),
  'guidance': ('Guidance scale', 'guidance'),
  'gamma': ('γ', 'γ'),
}


SMALLEST = 64  # pixels of an image on the page; smaller ones are enlarged


@dataclasses.dataclass(frozen=True)
class Shot:
  """A picture, and all settings at which it was drawn.

  Attributes:
    uri: its data.
    width: on the page, in pixels, where there is room.
    sharp: whether it is enlarged, pixel by pixel.
    at: the values of the sliders at which it looks like this.
  """

  uri: str
  width: int
  sharp: bool
  at: Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Panel:
  """What one model and sampler have drawn, one shot at a time."""

  title: str
  shots: Sequence[Shot]


@dataclasses.dataclass(frozen=True)
class Slider:
  """The values of a setting, at least two, in order.

  Attributes:
    name: of the setting.
    title: of the slider.
    short: of its value in the title of a panel.
    values: in order.
    start: the index of the value that is shown first.
  """

  name: str
  title: str
  short: str
  values: Sequence[float]
  start: int


@dataclasses.dataclass(frozen=True)
class Viewer:
  """Panels side by side, under common sliders."""

  panels: Sequence[Panel]
  sliders: Sequence[Slider]


def viewers(
  stages: Sequence[Stage], room: int, notes: list[str]
) -> tuple[Viewer, Viewer]:
  """The contact sheets, and the other pictures, of stages.

  Args:
    stages: of one section of a page.
    room: bytes of all pictures in the page, at most.
    notes: gets a sentence about what is left out.
  """
  every = [(s, p) for s in stages for p in _worth_showing(s.pictures)]
  stride = 1
  while len(_thinned(every, stride)) > MOST and stride < ALONE:
    stride *= 2
  for shrink, factor in LADDER:
    kept = _thinned(every, stride * factor)
    if _fits([p for _, p in kept], shrink, room):
      break
  kept = _that_fit(kept[-MOST:], shrink, room)
  if len(kept) < len(every):
    notes.append(
      f'{len(kept)} of {len(every)} pictures are shown, so that the file stays '
      'small; all of them are in the folders of the run.'
    )
  if shrink > 1:
    notes.append(f'Pictures are shown at 1/{shrink} of their width.')
  sheets = [(s, p) for s, p in kept if p.is_sheet]
  others = [(s, p) for s, p in kept if not p.is_sheet]
  return _viewer(sheets, shrink, notes), _viewer(others, shrink, notes)


def _worth_showing(pictures: Sequence[Picture]) -> list[Picture]:
  """The contact sheets, and the newest of the others, or without any all."""
  if not any(p.is_sheet for p in pictures):
    return list(pictures)
  last = max(p.at['step'] for p in pictures)
  return [p for p in pictures if p.is_sheet or p.at['step'] == last]


def _thinned(
  pictures: Sequence[tuple[Stage, Picture]], stride: int
) -> list[tuple[Stage, Picture]]:
  """Every so-manieth checkpoint of each stage, and always the last.

  They are counted from the first, so that the next page shows the same ones.
  """
  steps: dict[int, set[float]] = {}
  for stage, picture in pictures:
    steps.setdefault(id(stage), set()).add(picture.at['step'])
  kept = {
    stage: {*sorted(found)[::stride], max(found)}
    for stage, found in steps.items()
  }
  return [(s, p) for s, p in pictures if p.at['step'] in kept[id(s)]]


def _fits(pictures: Iterable[Picture], shrink: int, room: int) -> bool:
  """Whether they take at most `room` bytes; equal pictures count once."""
  found: set[Webp] = set()
  for picture in pictures:
    webp = encode(picture.path, shrink)
    room -= 0 if webp in found else len(webp)
    found.add(webp)
    if room < 0:
      return False
  return True


def _that_fit(
  kept: Sequence[tuple[Stage, Picture]], shrink: int, room: int
) -> list[tuple[Stage, Picture]]:
  """The last ones that fit: those of the newest checkpoints."""
  fitting, seen = [], set[Webp]()
  for picture in sorted((p for _, p in kept), key=lambda p: -p.at['step']):
    webp = encode(picture.path, shrink)
    room -= 0 if webp in seen else len(webp)
    seen.add(webp)
    if room >= 0:
      fitting.append(id(picture))
  return [(s, p) for s, p in kept if id(p) in fitting]


def _viewer(
  kept: Sequence[tuple[Stage, Picture]], shrink: int, notes: list[str]
) -> Viewer:
  several = len({(stage.run, stage.name) for stage, _ in kept}) > 1
  seeds = {p.seed for _, p in kept}
  fixed = [name for name in SLIDERS[1:] if len(_values(name, kept)) == 1]
  grouped: dict[str, dict[Webp, list[Picture]]] = {}
  for stage, p in kept:
    webp = encode(p.path, shrink)
    if webp == NOTHING:
      notes.append(f'{p.path.name} cannot be read.')
      continue
    where = [stage.run, stage.name] if several else []
    seed = [f'seed {p.seed}'] if len(seeds) > 1 else []
    title = ' · '.join(filter(None, [*where, _way(p, fixed), *seed]))
    grouped.setdefault(title, {}).setdefault(webp, []).append(p)
  panels = [
    Panel(title, [_shot(webp, same) for webp, same in shots.items()])
    for title, shots in grouped.items()
  ]
  return Viewer(panels, _sliders(panels))


def _values(name: str, kept: Sequence[tuple[Stage, Picture]]) -> set[float]:
  return {p.at[name] for _, p in kept if name in p.at}


def _way(picture: Picture, fixed: Sequence[str]) -> str:
  """What was drawn, with the settings that no slider shows."""
  settings = [
    f'{TITLES[name][1]} {picture.at[name]:.6g}'
    for name in fixed
    if name in picture.at
  ]
  return ', '.join([picture.way, *settings])


def _shot(webp: Webp, same: Sequence[Picture]) -> Shot:
  times = 1
  if same[0].is_sheet:
    times = max(1, -(-SMALLEST * same[0].columns // webp.width))
  return Shot(webp.uri, times * webp.width, times > 1, [p.at for p in same])


def _sliders(panels: Sequence[Panel]) -> list[Slider]:
  """Those with at least two values among what was drawn."""
  drawn = [[at for shot in panel.shots for at in shot.at] for panel in panels]
  sliders = []
  for name in SLIDERS:
    found = [{at[name] for at in each if name in at} for each in drawn]
    values = sorted(set().union(*found))
    if len(values) > 1:
      start = _start(name, values, found)
      sliders.append(Slider(name, *TITLES[name], values, start))
  return sliders


def _start(
  name: str, values: Sequence[float], found: Sequence[set[float]]
) -> int:
  """The last checkpoint; else the first value that most panels have."""
  if name == 'step':
    return len(values) - 1
  counts = [sum(value in each for each in found) for value in values]
  return counts.index(max(counts))
