"""Captions are true: they are read anew, and compared with the scene."""

import re

import pytest

from flowdistill.datasets.shape_kinds import BACKGROUNDS, COLOURS, KINDS
from flowdistill.datasets.shapes import shapes
from flowdistill.metrics.geneval import TAGS, Detection, judge

N = 1800
SOURCE = shapes(examples=N)
A = r'(?:a|an) '
THING = rf'{A}(?:(small|large) )?(?:({"|".join(COLOURS)}) )?({"|".join(KINDS)})'
THING += rf'(?: that is ({"|".join(COLOURS)}))?'
PLURALS = {kind + ('es' if kind == 'cross' else 's'): kind for kind in KINDS}
RELATIONS = {  # of the first to the second: (axis, sign of first − second)
  'left of': ('x', -1),
  'to the left of': ('x', -1),
  'right of': ('x', 1),
  'to the right of': ('x', 1),
  'above': ('y', -1),
  'over': ('y', -1),
  'below': ('y', 1),
  'under': ('y', 1),
}
INVERSE = {
  'to its left': ('x', -1),
  'to its right': ('x', 1),
  'above it': ('y', -1),
  'below it': ('y', 1),
}


def split(text):
  """(the words without frame, the background or None)."""
  text = re.sub(r'^(a picture of|an image of|a drawing of) ', '', text)
  found = re.fullmatch(r'(.*) on a (\w+) background', text)
  return (found[1], found[2]) if found else (text, None)


def fits(words, shape):
  """Whether (size, colour, kind, colour) hold of a shape."""
  size, before, kind, after = words
  colour = before or after
  sizes = {None: True, 'small': shape.radius < 0.2, 'large': shape.radius > 0.3}
  return kind == shape.kind and colour in (None, shape.colour) and sizes[size]


def is_true(text, scene):
  """Whether a caption holds of a scene; raises if it cannot be read."""
  text, background = split(text)
  if background not in (None, scene.background):
    return False
  shapes = scene.shapes
  if found := re.fullmatch(r'(two|three|four) (\w+)', text):
    n = {'two': 2, 'three': 3, 'four': 4}[found[1]]
    return n == len(shapes) and {s.kind for s in shapes} == {PLURALS[found[2]]}
  if found := re.fullmatch(THING, text):
    return len(shapes) == 1 and fits(found.groups(), shapes[0])
  ways = '|'.join(RELATIONS)
  if found := re.fullmatch(rf'{THING} ({ways}) {THING}', text):
    groups = found.groups()
    return placed(groups[:4], RELATIONS[groups[4]], groups[5:], shapes)
  ways = '|'.join(INVERSE)
  if found := re.fullmatch(rf'{THING} with {THING} ({ways})', text):
    groups = found.groups()
    return placed(groups[4:8], INVERSE[groups[8]], groups[:4], shapes)
  found = re.fullmatch(rf'{THING} (?:and|with|together with) {THING}', text)
  return two(found.groups()[:4], found.groups()[4:], shapes)


def two(first, second, shapes):
  a, b = shapes
  pairs = ((a, b), (b, a))
  return any(fits(first, x) and fits(second, y) for x, y in pairs)


def placed(first, relation, second, shapes):
  (axis, sign), (a, b) = relation, shapes
  if not fits(first, a):
    a, b = b, a
  apart = (getattr(a, axis) - getattr(b, axis)) * sign
  return fits(first, a) and fits(second, b) and apart > 0.2


def test_every_caption_is_true():
  texts, scenes = [*SOURCE.captions], [SOURCE.scene(i) for i in range(N)]
  wrong = [
    (text, scene)
    for text, scene in zip(texts, scenes, strict=True)
    if not is_true(text, scene)
  ]
  assert wrong == []


def test_the_reader_knows_what_is_false():
  """Of captions of other scenes of a category, hardly one is true."""
  texts = [*SOURCE.captions]
  held = [is_true(texts[i], SOURCE.scene(i + 6)) for i in range(600)]
  assert sum(held) < 60


def test_captions_name_what_their_category_is_about():
  for prompt in SOURCE.prompts:
    text, _ = split(prompt.text)
    words = {*text.split()}
    assert bool(words & {*COLOURS}) == (prompt.tag in ('colors', 'color_attr'))
    assert bool(words & {*PLURALS}) == (prompt.tag == 'counting')


def test_there_are_several_phrasings_of_each_category():
  ways = {'two_object': 3, 'color_attr': 3, 'position': 12}
  words = '|'.join((*PLURALS, *COLOURS, *KINDS))
  for number, tag in enumerate(TAGS):
    texts = [SOURCE.captions[i] for i in range(number, N, 6)]
    frames = {re.sub(THING, 'T', split(text)[0]) for text in texts}
    assert len({re.sub(words, '_', text) for text in texts}) > 12, tag
    assert tag not in ways or len(frames) == ways[tag]
  named = [split(text)[1] for text in SOURCE.captions]
  assert {*named} == {None, *BACKGROUNDS}
  assert 0.2 < sum(each is not None for each in named) / N < 0.3


def test_a_scene_fulfils_its_own_prompt():
  for index in range(N):
    scene, prompt = SOURCE.scene(index), SOURCE.prompts[index]
    found = [Detection(s.kind, s.colour, s.box) for s in scene.shapes]
    assert judge(prompt, found).correct
    assert not judge(prompt, found[1:]).correct


@pytest.mark.parametrize('word', ['orange star', 'circle'])
def test_articles(word):
  texts = ' '.join(SOURCE.captions)
  article = 'an' if word[0] in 'aeiou' else 'a'
  other = {'an': 'a', 'a': 'an'}[article]
  assert f' {article} {word}' in texts
  assert f' {other} {word}' not in texts
