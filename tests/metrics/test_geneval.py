"""The rules of GenEval, by cases that are known by hand."""

import itertools

import pytest

from flowdistill.metrics.geneval import (
  POSITIONS,
  TAGS,
  Clause,
  Detection,
  Prompt,
  judge,
  of_record,
  relations,
  scores,
  to_record,
)

UNIT = (10.0, 10.0, 20.0, 20.0)


def at(x, y, width=10.0, height=10.0):
  return (x, y, x + width, y + height)


def one(kind, colour='red', box=UNIT, confidence=1.0):
  return Detection(kind, colour, box, confidence)


def ask(*clauses, exclude=()):
  return Prompt('single_object', 'words', clauses, exclude)


@pytest.mark.parametrize(
  ('box', 'expected'),
  [
    (at(-20, 10), {'left of'}),
    (at(40, 10), {'right of'}),
    (at(10, -20), {'above'}),
    (at(10, 40), {'below'}),
    (at(40, 40), {'right of', 'below'}),  # 28 / (30 √2) each
    (at(10, 10), set()),
    (at(12, 10), set()),  # 2 = a tenth of 10 + 10
    (at(13.9, 10), set()),  # 1.9 / 3.9 < 1/2
    (at(14.1, 10), {'right of'}),
  ],
)
def test_positions_are_of_centres_less_a_tenth_of_the_extents(box, expected):
  assert relations(box, UNIT) == expected


def test_positions_are_antisymmetric():
  opposite = dict(
    zip(POSITIONS, ('right of', 'left of', 'below', 'above'), strict=True)
  )
  ends = (0.0, 7.0, 13.0, 31.0)
  for x, y in itertools.product(ends, ends):
    box = at(x, y, 4, 8)
    there, back = relations(box, UNIT), relations(UNIT, box)
    assert {opposite[name] for name in there} == back


def test_wide_boxes_are_level_for_longer():
  assert relations(at(22, 10, 40, 10), at(10, 10, 40, 10)) == set()
  assert relations(at(30, 10, 40, 10), at(10, 10, 40, 10)) == {'right of'}


@pytest.mark.parametrize(
  ('prompt', 'objects', 'reason'),
  [
    (ask(Clause('star')), [one('star')], ''),
    (ask(Clause('star')), [one('ring')], 'expected star>=1, found 0'),
    (ask(Clause('star')), [one('star'), one('star'), one('ring')], ''),
    (
      ask(Clause('star', 2), exclude=(Clause('star', 3),)),
      [one('star')] * 2,
      '',
    ),
    (
      ask(Clause('star', 2), exclude=(Clause('star', 3),)),
      [one('star')] * 3,
      'expected star<3, found 3',
    ),
    (
      ask(Clause('star', 2), exclude=(Clause('star', 3),)),
      [one('star')],
      'expected star>=2, found 1',
    ),
    (ask(Clause('star', colour='blue')), [one('star', 'blue')], ''),
    (
      ask(Clause('star', colour='blue')),
      [one('star'), one('ring', 'blue')],
      'expected blue star>=1, found red',
    ),
    (
      ask(Clause('star', 2, 'blue')),
      [one('star'), one('star', 'blue')],
      'expected blue star>=2, found red, blue',
    ),
  ],
)
def test_verdicts(prompt, objects, reason):
  verdict = judge(prompt, objects)
  assert (verdict.correct, verdict.reason) == (not reason, reason)


def test_the_most_confident_object_decides():
  prompt = ask(Clause('star', colour='blue'))
  for red, blue in ((0.9, 0.8), (0.8, 0.9)):
    objects = [one('star', 'red', UNIT, red), one('star', 'blue', UNIT, blue)]
    assert judge(prompt, objects).correct == (blue > red)


def test_positions_are_to_the_objects_of_the_other_clause():
  prompt = ask(Clause('ring'), Clause('star', position=('left of', 0)))
  ring = one('ring')
  assert judge(prompt, [ring, one('star', box=at(-20, 10))]).correct
  wrong = judge(prompt, [ring, one('star', box=at(40, 10))])
  assert wrong.reason == 'expected star left of target, found right of target'
  level = judge(prompt, [ring, one('star')])
  assert level.reason.endswith('found level with the target')
  alone = judge(prompt, [one('star', box=at(-20, 10))])
  assert alone.reason.splitlines() == [
    'expected ring>=1, found 0',
    'no target for star to be left of',
  ]


def test_the_score_is_the_mean_of_the_categories_not_of_pictures():
  tags = ['single_object'] * 3 + ['position'] + ['other']
  found = scores(tags[::-1], [True, False, True, True, False])
  assert found == {
    'overall': pytest.approx((2 / 3 + 0 + 1) / 3),
    'single_object': pytest.approx(2 / 3),
    'position': 0,
    'other': 1,
  }
  assert [*found] == ['overall', 'single_object', 'position', 'other']
  with pytest.raises(ValueError, match='at least one picture'):
    scores([], [])


RECORDS = [  # as GenEval's create_prompts.py writes them
  {
    'tag': 'counting',
    'include': [{'class': 'bus', 'count': 3}],
    'exclude': [{'class': 'bus', 'count': 4}],
    'prompt': 'a photo of three buses',
  },
  {
    'tag': 'position',
    'include': [
      {'class': 'couch', 'count': 1},
      {'class': 'bird', 'count': 1, 'position': ['left of', 0]},
    ],
    'prompt': 'a photo of a bird left of a couch',
  },
  {
    'tag': 'color_attr',
    'include': [
      {'class': 'dog', 'count': 1, 'color': 'white'},
      {'class': 'potted plant', 'count': 1, 'color': 'blue'},
    ],
    'prompt': 'a photo of a white dog and a blue potted plant',
  },
]


@pytest.mark.parametrize('record', RECORDS)
def test_records_are_read_and_written(record):
  prompt = of_record(record)
  assert to_record(prompt) == record
  assert prompt.tag in TAGS and prompt.text == record['prompt']
  assert prompt.include[0].kind == record['include'][0]['class']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'tag': None}, 'tag = None must be a text'),
    ({'include': []}, r'include = \[\] must have an object'),
    ({'include': 'bus'}, "include = 'bus' must be a list"),
    ({'include': ['bus']}, r"include\[0\] = 'bus' must be an object"),
    ({'include': [{'class': 'bus'}]}, "it has no 'count'"),
    (
      {'include': [{'class': 'bus', 'count': 0}]},
      r'include\[0\].count = 0 must be at least 1',
    ),
    (
      {'include': [{'class': 'bus', 'count': 1, 'colour': 'red'}]},
      "'colour' must be one of",
    ),
    (
      {'include': [{'class': 'b', 'count': 1, 'position': ['left of', 0]}]},
      r'include\[0\].position = .* the number of an earlier object',
    ),
    ({'excludes': []}, "'excludes' must be one of"),
  ],
)
def test_bad_records_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    of_record({**RECORDS[0], **change})
