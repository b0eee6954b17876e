"""The progress of a stage, on a terminal and off it."""

import io

import jax.numpy as jnp
import pytest

from flowdistill.training import progress as module
from flowdistill.training.progress import progress


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


@pytest.fixture
def clock(monkeypatch):
  """A clock that stands still until it is set."""

  class Clock:
    now = 0.0

    def monotonic(self):
      return self.now

  clock = Clock()
  monkeypatch.setattr(module, 'time', clock)
  return clock


def run(clock, stream, seconds, **options):
  """20 of 100 steps, half a second each, after ten seconds of compilation."""
  with progress(
    100, 10, 'flow', batch_size=128, stream=stream, **options
  ) as bar:
    for step in range(11, 31):
      clock.now = 10 + (step - 11) * seconds
      waited = 7 + 0.1 * clock.now
      bar.update(step, loss=jnp.float32(1 / step), waited=waited)


def test_lines_where_there_is_no_terminal(clock):
  stream = io.StringIO()
  run(clock, stream, 1.5)
  lines = stream.getvalue().splitlines()
  assert lines[0] == 'flow 11/100, loss 0.09091'
  # Every ten seconds, and at the end: 1 / 1.5 steps/s, 70 steps to go.
  assert [line.split(',')[0] for line in lines] == [
    'flow 11/100',
    'flow 18/100',
    'flow 25/100',
    'flow 30/100',
  ]
  assert lines[-1] == (
    'flow 30/100, loss 0.03333, 0.667 steps/s, 85 images/s, 10% for data, '
    '01:45 left'
  )


def test_a_bar_on_a_terminal(clock):
  stream = Terminal()
  run(clock, stream, 0.5)
  shown = stream.getvalue()
  last = shown.split('\r')[-1]
  assert last.startswith('flow  30%|') and '30/100' in last
  assert '2 steps/s, 256 images/s, 10% for data, 00:35 left' in last
  assert last.endswith('\n') and shown.count('\n') == 1


def test_a_step_of_half_the_peak(clock):
  """A step takes 1.5 s, and would take 0.75 s at the peak of all devices."""
  stream = io.StringIO()
  run(clock, stream, 1.5, ideal=0.75)
  first, *_, last = stream.getvalue().splitlines()
  assert '10% for data, 50.0% MFU, 01:45 left' in last
  assert 'MFU' not in first  # nothing is measured yet


def test_a_loss_that_is_not_shown_is_not_read(clock):
  class Loss:
    def __float__(self) -> float:
      raise AssertionError('read')

  with progress(9, 0, 'flow', batch_size=1, stream=io.StringIO()) as bar:
    for step in range(1, 4):
      bar.update(step, loss=Loss())
    bar.update(4, loss=0.5)


def test_a_stage_that_is_already_done():
  stream = io.StringIO()
  with progress(10, 10, 'flow', batch_size=1, stream=stream):
    pass
  assert stream.getvalue() == 'flow 10/10\n'


def test_it_writes_to_stdout(capsys):
  with progress(2, 0, 'flow', batch_size=1) as bar:
    bar.update(2, loss=0.25)
  assert capsys.readouterr().out == 'flow 2/2, loss 0.25\n'
