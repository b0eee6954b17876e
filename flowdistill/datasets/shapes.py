"""Captioned shapes: pictures that are drawn when they are asked for.

Example i is a function of (seed, i) and the split: first what is in the picture
(`scene`), and of that the picture, its caption and what GenEval would ask of a
picture of that caption.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from flowdistill.datasets.captioned import Captioned, with_text
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.lazy import Lazy, places
from flowdistill.datasets.shape_captions import prompt_of
from flowdistill.datasets.shape_detection import detect
from flowdistill.datasets.shape_scenes import Scene, render, scene_of
from flowdistill.datasets.source import Batch
from flowdistill.datasets.split import check as check_split
from flowdistill.datasets.texts import Text
from flowdistill.flow.spec import LABEL, DataSpec
from flowdistill.metrics.geneval import TAGS, Detection, Prompt

SMALLEST, LARGEST = 24, 256
CLASSES = 'category'


def shapes(
  *,
  size: int = 32,
  examples: int = 10_000,
  seed: int = 0,
  classes: str | None = None,
  text: Text | None = None,
  split: str = 'all',
  categories: Sequence[str] = TAGS,
) -> 'Shapes | Captioned':
  """Coloured shapes [size, size, 3] in [-1, 1], with captions.

  Args:
    size: side of the square in pixels, in 24 ... 256.
    examples: how many there are, which is the length of an epoch.
    seed: of all that is in them, in 0 ... 2⁶³ − 1.
    classes: 'category' labels each with one of the six categories of GenEval;
      None for no label.
    text: what makes conditions of the captions (see `texts.py`); None for no
      such condition.
    split: 'train' without the combinations of `shape_combinations.py`,
      'validation' with them, or 'all' with and without.
    categories: those of the examples, in turn, of the six of GenEval. One that
      is named twice is twice as frequent.

  Raises:
    ValueError: if an option is out of range.
  """
  if not SMALLEST <= size <= LARGEST:
    raise ValueError(f'size = {size} must lie in {SMALLEST} ... {LARGEST}')
  if examples < 1:
    raise ValueError(f'examples = {examples} must be at least 1')
  if not 0 <= seed < 2**63:
    raise ValueError(f'seed = {seed} must lie in 0 ... 2⁶³ − 1')
  if classes not in (None, CLASSES):
    raise ValueError(f'classes = {classes!r} must be {CLASSES!r} or none')
  check_split(split, 0.0)
  check_categories(categories)
  names = TAGS if classes else ()
  spec = DataSpec.labelled((size, size, 3), len(names), names)
  source = Shapes(spec, examples, seed, split, tuple(categories))
  return with_text(source, text)


def check_categories(categories: Sequence[str]) -> None:
  """Raises a ValueError unless categories are some of the six of GenEval."""
  named = () if isinstance(categories, str) else categories
  if not named or not set(named) <= set(TAGS):
    raise ValueError(
      f'categories = {categories!r} must be one or more of {", ".join(TAGS)}'
    )


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Shapes with random access.

  Attributes:
    spec: of an example.
    examples: their number.
    seed: of all that is in them.
    split: see `shapes`.
    categories: see `shapes`.
    mirrors: whether captions hold of mirrored pictures; 'left of' does not.
  """

  spec: DataSpec
  examples: int
  seed: int
  split: str
  categories: tuple[str, ...]
  mirrors: ClassVar[bool] = False

  def __len__(self) -> int:
    return self.examples

  def __getitem__(self, index: Any) -> Batch:
    """One example for an int, a batch of them for an array of ints [b]."""
    numbers = places(index, self.examples)
    pixels = [render(self.scene(i), self.spec.shape[0]) for i in numbers.flat]
    x0 = to_unit(np.reshape(pixels, (*numbers.shape, *self.spec.shape)))
    return {'x0': x0, **self.conditions(index)}

  def conditions(self, index: Any) -> Batch:
    """The label of each of the examples `index` [b], if they have one."""
    if LABEL not in self.spec.cond:
      return {}
    numbers = np.asarray([TAGS.index(tag) for tag in self.categories], np.int32)
    return {LABEL: numbers[places(index, self.examples) % len(numbers)]}

  def scene(self, index: int) -> Scene:
    """What is in the picture of an example."""
    return self._described(index)[0]

  def _described(self, index: int) -> tuple[Scene, Prompt]:
    scene, draws = scene_of(self.seed, int(index), self.split, self.categories)
    return scene, prompt_of(scene, draws)

  @property
  def prompts(self) -> 'Lazy[Prompt]':
    """The caption of each example, with what a picture of it must show."""
    return Lazy(self.examples, lambda i: self._described(i)[1])

  @property
  def captions(self) -> 'Lazy[str]':
    """The caption of each example."""
    return Lazy(self.examples, lambda i: self._described(i)[1].text)

  def detect(self, picture: np.ndarray) -> list[Detection]:
    """The shapes in any picture [h, w, 3] in [-1, 1]."""
    return detect(picture)
