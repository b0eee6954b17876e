"""Captions of scenes in several phrasings, and what they ask for.

All is taken from the scene, so that a caption is true by construction.
"""

from flowdistill.datasets.keyed_draws import KeyedDraws
from flowdistill.datasets.shape_scenes import Scene, Shape
from flowdistill.metrics.geneval import Clause, Prompt, relations

NUMBERS = {2: 'two', 3: 'three', 4: 'four'}
BEFORE = ('', '', 'a picture of ', 'an image of ', 'a drawing of ')
SHARE = 0.25  # of captions that name the background, or a size
AND = ('{} and {}', '{} with {}', '{} together with {}')
WHERE = {
  'left of': ('left of', 'to the left of'),
  'right of': ('right of', 'to the right of'),
  'above': ('above', 'over'),
  'below': ('below', 'under'),
}
BESIDE = {
  'left of': 'to its left',
  'right of': 'to its right',
  'above': 'above it',
  'below': 'below it',
}


def prompt_of(scene: Scene, draws: KeyedDraws) -> Prompt:
  """A caption of a scene, and what a picture of it must show.

  Args:
    scene: that is described.
    draws: choose the phrasing.
  """
  text = draws.choose(BEFORE) + _text(scene, draws)
  if draws.chance(SHARE):
    text += f' on a {scene.background} background'
  first = scene.shapes[0].kind
  if scene.tag == 'counting':
    n = len(scene.shapes)
    return Prompt(scene.tag, text, (Clause(first, n),), (Clause(first, n + 1),))
  return Prompt(scene.tag, text, _clauses(scene))


def _clauses(scene: Scene) -> tuple[Clause, ...]:
  """What all categories but counting ask for."""
  if scene.tag in ('colors', 'color_attr'):
    return tuple(Clause(s.kind, colour=s.colour) for s in scene.shapes)
  if scene.tag != 'position':
    return tuple(Clause(s.kind) for s in scene.shapes)
  one, other = scene.shapes
  return Clause(other.kind), Clause(one.kind, position=(where(scene), 0))


def where(scene: Scene) -> str:
  """Where the first of two shapes is, as seen from the second."""
  one, other = scene.shapes
  (relation,) = relations(one.box, other.box)
  return relation


def _text(scene: Scene, draws: KeyedDraws) -> str:
  one, *others = scene.shapes
  if scene.tag == 'counting':
    return f'{NUMBERS[len(scene.shapes)]} {plural(one.kind)}'
  if scene.tag == 'position':
    return _position(scene, draws)
  coloured = scene.tag in ('colors', 'color_attr')
  if not others:
    return _single(one, coloured, draws)
  name = _coloured if coloured else _plain
  return draws.choose(AND).format(name(one), name(others[0]))


def _single(shape: Shape, coloured: bool, draws: KeyedDraws) -> str:
  size = shape.size if draws.chance(SHARE) else ''
  if not coloured:
    return article(' '.join(filter(None, [size, shape.kind])))
  ways = (
    article(' '.join(filter(None, [size, shape.colour, shape.kind]))),
    article(' '.join(filter(None, [size, shape.kind])))
    + f' that is {shape.colour}',
  )
  return draws.choose(ways)


def _position(scene: Scene, draws: KeyedDraws) -> str:
  one, other = map(_plain, scene.shapes)
  relation = where(scene)
  ways = (*WHERE[relation], BESIDE[relation])
  way = draws.choose(ways)
  if way == BESIDE[relation]:
    return f'{other} with {one} {way}'
  return f'{one} {way} {other}'


def _plain(shape: Shape) -> str:
  return article(shape.kind)


def _coloured(shape: Shape) -> str:
  return article(f'{shape.colour} {shape.kind}')


def article(words: str) -> str:
  """'an orange star'."""
  return f'an {words}' if words[0] in 'aeiou' else f'a {words}'


def plural(kind: str) -> str:
  """'crosses'."""
  return f'{kind}es' if kind.endswith('s') else f'{kind}s'
