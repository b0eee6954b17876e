"""Which checkpoints a job looks at."""

import threading
import time

import pytest

from flowdistill.bind import ConfigError
from flowdistill.jobs import checkpoints
from flowdistill.jobs.checkpoints import among, check_steps, chosen, is_several

STEPS = [10, 20, 30, 40]


@pytest.mark.parametrize(
  ('text', 'found'),
  [
    ('last', [40]),
    ('20', [20]),
    ('25', []),
    ('15:30', [20, 30]),
    (':20', [10, 20]),
    ('30:', [30, 40]),
    (':', STEPS),
    ('all', STEPS),
  ],
)
def test_what_is_asked_for(text, found):
  check_steps(text)
  assert among(STEPS, text) == found


@pytest.mark.parametrize('text', ['', 'first', '1-2', '1:2:3', '-5', '1.5'])
def test_what_says_nothing_is_refused(text):
  with pytest.raises(ConfigError, match=f'--steps={text}: it must be last'):
    check_steps(text)


def test_one_step_or_several():
  assert [t for t in ('last', '5', '5:', 'all', 'wait') if is_several(t)] == [
    '5:',
    'all',
    'wait',
  ]


def test_where_there_is_none_it_says_which_there_are(tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match='--steps=5 in .*, nor any other'):
    chosen(tmp_path, '5', 40)
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: STEPS)
  with pytest.raises(ConfigError, match=r'only of \[10, 20, 30, 40\]'):
    chosen(tmp_path, '5', 40)


def test_waiting_sees_each_once_until_the_stage_has_ended(monkeypatch):
  """One that is gone before its turn is left out."""
  there = [10]
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: list(there))
  monkeypatch.setattr(checkpoints, 'POLL', 0.01)

  def train():
    for new in ([20], [30, 40]):
      time.sleep(0.05)
      there[:] = new

  thread = threading.Thread(target=train)
  thread.start()
  assert list(chosen(None, 'wait', 40)) == STEPS
  thread.join()


def test_waiting_has_an_end(monkeypatch):
  monkeypatch.setattr(checkpoints, 'completed_steps', lambda _: [10])
  assert list(chosen(None, 'wait', 40, patience=0.2)) == [10]
