"""Curves of metrics.jsonl: means of neighbours, in bounded time and memory."""

import json
import tracemalloc

import numpy as np
import pytest

from flowdistill.figures import losses
from flowdistill.figures.losses import POINTS, Thinned, curves


def write(path, rows):
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return path


@pytest.mark.parametrize('n', [1, POINTS, POINTS + 1, 2 * POINTS + 1, 12_345])
def test_a_curve_has_means_of_equally_many_values(n):
  thinned = Thinned()
  values = np.random.default_rng(0).normal(size=n)
  for step, value in enumerate(values):
    thinned.add(step, value)
  curve = thinned.curve('loss')
  m = curve.mean_of
  assert len(curve.points) == -(-n // m) <= POINTS
  assert m == 1 or len(curve.points) > POINTS / 2
  for k, (step, value) in enumerate(curve.points):
    part = slice(k * m, (k + 1) * m)
    assert step == pytest.approx(np.arange(n)[part].mean())
    assert value == pytest.approx(values[part].mean())


def test_evaluations_and_what_is_not_finite_are_no_losses(tmp_path):
  rows = [
    {'step': 1, 'images': 8, 'rate': 0.5, 'loss': 3.0, 'critic/loss': 1.0},
    {'step': 1, 'images': 8, 'evaluator': 'a', 'student/energy': 2.0},
    {'step': 1, 'images': 8, 'student/energy': 2.0},
    {'step': 2, 'images': 16, 'loss': 'nan', 'rate': 0.25},
    {'step': 3, 'images': 24, 'loss': 1.0},
    {'step': 2, 'images': 16, 'loss': 99.0},
  ]
  found = curves(write(tmp_path / 'metrics.jsonl', rows), notes := [])
  assert {curve.name: curve.points for curve in found} == {
    'loss': ((1, 3.0), (3, 1.0)),
    'rate': ((1, 0.5), (2, 0.25)),
    'critic/loss': ((1, 1.0),),
  }
  assert found[0].name == 'loss' and not notes


def test_a_cut_last_line_is_no_damage(tmp_path):
  path = write(tmp_path / 'metrics.jsonl', [{'step': 1, 'loss': 1.0}])
  with path.open('a') as file:
    file.write('{"step": 2, "lo')
  assert curves(path, notes := [])[0].points == ((1, 1.0),)
  assert not notes


def test_a_large_file_is_read_in_parts(tmp_path, monkeypatch):
  monkeypatch.setattr(losses, 'WHOLE', 2**16)
  monkeypatch.setattr(losses, 'BLOCKS', 32)
  monkeypatch.setattr(losses, 'BLOCK', 2**10)
  n = 50_000
  rows = ({'step': k, 'images': k, 'loss': k / n} for k in range(n))
  path = write(tmp_path / 'metrics.jsonl', rows)
  tracemalloc.start()
  (curve,) = curves(path, notes := [])
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**19 < path.stat().st_size
  steps, values = np.transpose(curve.points)
  assert steps[0] < n / 30 and steps[-1] > n - n / 30
  assert np.abs(values - steps / n).max() < 1e-9
  assert notes == ['metrics.jsonl is large: some of its lines are shown.']


def test_one_long_line_takes_little_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(losses, 'WHOLE', 2**16)
  (tmp_path / 'metrics.jsonl').write_bytes(b'x' * 2**22)
  assert curves(tmp_path / 'metrics.jsonl', []) == []


def test_of_many_metrics_the_first_are_drawn(tmp_path):
  row = {f'm{k}': 1.0 for k in range(20)} | {'step': 1, 'loss': 1.0}
  found = curves(write(tmp_path / 'metrics.jsonl', [row]), notes := [])
  assert len(found) == losses.MOST and found[0].name == 'loss'
  assert notes == ['9 more metrics are in metrics.jsonl.']


def test_no_file_has_no_curves(tmp_path):
  assert curves(tmp_path / 'metrics.jsonl', []) == []
