"""Skin tones, genders and directions of one figure are one figure."""

import pytest

from flowdistill.datasets.emoji_figures import figure_of

JOIN, LIGHT, DARK, FEMALE, RIGHT = 0x200D, 0x1F3FB, 0x1F3FF, 0x2640, 0x27A1
MAN, WOMAN, ADULT, BOY, CHILD = 0x1F468, 0x1F469, 0x1F9D1, 0x1F466, 0x1F9D2
RUNS, HAND, HEART, KISS, ENGINE = 0x1F3C3, 0x1F91D, 0x2764, 0x1F48B, 0x1F692


@pytest.mark.parametrize(
  'same',
  [
    [(0x1F44B,), (0x1F44B, LIGHT), (0x1F44B, DARK)],
    [(MAN,), (WOMAN,), (ADULT, DARK)],
    [(RUNS,), (RUNS, LIGHT, JOIN, FEMALE), (RUNS, JOIN, FEMALE, JOIN, RIGHT)],
    [(RUNS, LIGHT), (RIGHT, JOIN, FEMALE, JOIN, RUNS, DARK)],
    [(MAN, JOIN, ENGINE), (WOMAN, DARK, JOIN, ENGINE), (ENGINE, JOIN, MAN)],
    [
      (0x1F46B,),
      (0x1F46C, LIGHT),
      (WOMAN, LIGHT, JOIN, HAND, JOIN, MAN, DARK),
      (ADULT, JOIN, HAND, JOIN, ADULT),
    ],
    [(0x1F48F,), (MAN, JOIN, HEART, JOIN, KISS, JOIN, WOMAN)],
    [(0x1F491, DARK), (MAN, DARK, JOIN, HEART, JOIN, WOMAN, LIGHT)],
    [
      (0x1F46A,),
      (MAN, JOIN, WOMAN, JOIN, BOY),
      (CHILD, JOIN, ADULT, JOIN, MAN),
    ],
    [(HAND,), (HAND, LIGHT), (0x1FAF1, LIGHT, JOIN, 0x1FAF2, DARK)],
  ],
)
def test_variants_are_one_figure(same):
  assert len({figure_of([sequence]) for sequence in same}) == 1


def test_different_figures_are_kept_apart():
  signs = [(FEMALE,), (0x2642,), (RIGHT,), (LIGHT,), (DARK,)]
  others = [(MAN,), (CHILD,), (MAN, JOIN, ENGINE), (ENGINE,), (HEART,), (KISS,)]
  flags = [(0x1F1E6, 0x1F1E7), (0x1F1E7, 0x1F1E6)]
  sequences = [*signs, *others, *flags]
  assert len({figure_of([s]) for s in sequences}) == len(sequences)


def test_a_figure_has_the_name_that_a_list_of_the_held_out_has():
  assert figure_of([(WOMAN, DARK, JOIN, ENGINE)]) == '1F692-1F9D1'
  spelt = [(RIGHT, JOIN, RUNS, LIGHT), (RUNS, LIGHT, JOIN, RIGHT)]
  assert figure_of(spelt) == '1F3C3'
