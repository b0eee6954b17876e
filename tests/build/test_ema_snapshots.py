"""Which power EMAs the snapshots of a stage can give."""

import itertools
import pathlib
import re
from types import SimpleNamespace

import pytest

from flowdistill.build.ema_snapshots import (
  MOST,
  check_reconstruction,
  fitted,
  kept_until,
  resolved,
)
from flowdistill.config.bind import ConfigError
from flowdistill.config.run_sections import EmaSnapshots
from flowdistill.training.ema import EMAS
from flowdistill.training.lengths import Length
from flowdistill.training.roles import Learning, Role

DOCS = pathlib.Path(__file__).parents[2] / 'docs' / 'evaluation.md'


def stage(
  widths=(0.05, 0.1), *, every=100, total=1600, dtype='float16', role_every=1,
  ema_dtype='float32', role_start=0,
):  # fmt: skip
  """A blueprint of one role, without a network."""
  emas = {
    f'e{i}': EMAS['power'](0, lambda n: 0, sigma_rel=width, dtype=ema_dtype)
    for i, width in enumerate(widths)
  }
  emas['other'] = EMAS['decay'](0, lambda n: 0, decay=0.9)
  learns = Learning(loss=None, tx=None, emas=emas)
  role = Role(None, learns=learns, every=role_every, start=role_start)
  length = every and Length(steps=every)
  section = EmaSnapshots(every=length, dtype=dtype)
  return SimpleNamespace(
    name='flow',
    learners={'student': role},
    stage=SimpleNamespace(ema_snapshots=section),
    to_steps=lambda length: length.steps if length else 0,
    total=total,
  )


def check(found, sigma_rel):
  check_reconstruction(found, 'student', sigma_rel, '--ema')


@pytest.mark.parametrize(
  ('count', 'low', 'high'),
  [
    tuple(map(float, row))
    for row in re.findall(
      r'^\| (\d+) \| (0\.\d+) \| (0\.\d+) \|$', DOCS.read_text('utf-8'), re.M
    )
  ],
)
def test_the_widths_of_the_documentation(count, low, high):
  every = 9600 // int(count)
  found = stage(every=every, total=9600)
  for width in (low, high, (low * high) ** 0.5):
    check(found, width)
  for width in (0.9 * low, 1.1 * high):
    with pytest.raises(ConfigError, match=r'must be a width that can be'):
      check(found, width)


def test_the_nearest_width_can_be_reconstructed():
  found = stage()
  for width in (0.001, 0.28):
    with pytest.raises(ConfigError) as error:
      check(found, width)
    check(found, float(re.search(r'power:(0\.\d+)', str(error.value))[1]))


def test_of_one_ema_a_second_is_advised():
  with pytest.raises(ConfigError, match='train with a second EMA of kind pow'):
    check(stage([0.05]), 0.1)


def test_too_few_digits_are_named():
  fine = stage(every=100, total=12_700, dtype='float32')
  check(fine, 0.009)
  coarse = stage(every=100, total=12_700)
  with pytest.raises(ConfigError, match=r"rounded, .* dtype = 'float32'"):
    check(coarse, 0.009)
  halved = stage(every=100, total=3200, dtype='float32', ema_dtype='bfloat16')
  check(halved, 0.07)
  with pytest.raises(ConfigError, match='rounded, it would be off by'):
    check(halved, 0.024)


def test_names_of_weights():
  found = stage()
  assert resolved(found, 'student', 'power:0.05') == 'e0'
  assert resolved(found, 'student', 'power:0.10') == 'e1'
  assert resolved(found, 'student', 'power:0.07') == 0.07
  for name in ('ema', 'params', 'other', 'powers'):
    assert resolved(found, 'student', name) == name
  found.learners['student'].learns.emas['power:x'] = None
  assert resolved(found, 'student', 'power:x') == 'power:x'


def test_times_are_updates_of_the_role():
  """At step 7 a role of every third step has been updated twice."""
  found = stage(role_every=3)
  kept = kept_until(found, 'student', range(1, 12), 11)
  assert [(k.step, k.profile.time) for k in kept[::2]] == [
    (5, 1),
    (8, 2),
    (11, 3),
  ]
  assert kept_until(found, 'student', [1], 2) == []
  with pytest.raises(ConfigError, match='at which the role was updated'):
    fitted(found, [], 0.07, '--ema')


def test_before_a_role_starts_it_has_no_emas():
  found = stage(role_every=2, role_start=50)
  kept = kept_until(found, 'student', range(10, 61, 2), 60)
  times = [(k.step, k.profile.time) for k in kept[::2]]
  assert times == [(52, 1), (54, 2), (56, 3), (58, 4), (60, 5)]


def test_many_snapshots_are_thinned_evenly():
  found = stage()
  kept = kept_until(found, 'student', range(1, 100_000), 200_000)
  steps = sorted({k.step for k in kept})
  assert len(steps) == MOST + 1
  assert steps[0] == 1 and steps[-2:] == [99_999, 200_000]
  gaps = {b - a for a, b in itertools.pairwise(steps[:-1])}
  assert max(gaps) - min(gaps) <= 1
  check(stage(every=1, total=1_000_000), 0.02)
