"""Metrics in files, and the log."""

import json
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from tensorboardX.proto import event_pb2

from flowdistill.flow.spec import DataSpec
from flowdistill.networks.mlp import MLP
from flowdistill.training.log import (
  METRICS,
  MetricLog,
  log_parameters,
  logged,
)


def rows(folder):
  text = (folder / METRICS).read_text()
  return [json.loads(line) for line in text.splitlines()]


def events(folder):
  """(step, name, value) of every scalar, and the steps of session starts."""
  scalars, starts = [], []
  for path in sorted(folder.glob('events.out.tfevents.*')):
    data = path.read_bytes()
    while data:
      # A record is: length (8 bytes), its checksum (4), content, checksum (4).
      size = int.from_bytes(data[:8], 'little')
      event = event_pb2.Event.FromString(data[12 : 12 + size])
      data = data[16 + size :]
      if event.HasField('session_log'):
        starts.append(event.step)
      for value in event.summary.value:
        scalars.append((event.step, value.tag, value.simple_value))
  return scalars, starts


def test_a_line_and_events_per_write(tmp_path):
  with MetricLog(tmp_path / 'flow', resume_step=0) as log:
    log.write(1, 128, {'loss': 0.5, 'rate': jnp.float32(0.25)})
    # Everything is on disk before the log is closed.
    expected = {'step': 1, 'images': 128, 'loss': 0.5, 'rate': 0.25}
    assert rows(tmp_path / 'flow') == [expected]
    assert events(tmp_path / 'flow')[0] == [(1, 'loss', 0.5), (1, 'rate', 0.25)]
    log.write(2, 256, {'loss': 0.125})
  assert rows(tmp_path / 'flow')[1] == {'step': 2, 'images': 256, 'loss': 0.125}


@pytest.mark.parametrize('tail', ['', '{"step": 4, "ima', '{"step": 1}'])
def test_a_resumed_log_forgets_what_comes_again(tmp_path, tail):
  with MetricLog(tmp_path, resume_step=0) as log:
    for step in range(1, 5):
      log.write(step, 10 * step, {'loss': step})
  with (tmp_path / METRICS).open('a') as file:
    file.write(tail)
  with MetricLog(tmp_path, resume_step=2) as log:
    assert [row['step'] for row in rows(tmp_path)] == [1, 2]
    log.write(3, 30, {'loss': 33.0})
  assert [row['loss'] for row in rows(tmp_path)] == [1, 2, 33]
  assert 3 in events(tmp_path)[1]  # TensorBoard drops what is there from 3 on.
  assert not list(tmp_path.glob('*.tmp'))


def test_a_damaged_line_is_told_and_nothing_is_cut(tmp_path):
  text = '{"step": 1}\n{"st\n{"step": 3}\n'
  (tmp_path / METRICS).write_text(text)
  with pytest.raises(ValueError, match=r'metrics.jsonl, line 2, is cut'):
    MetricLog(tmp_path, resume_step=3)
  assert (tmp_path / METRICS).read_text() == text
  with pytest.raises(ValueError, match='line 2, is cut'):
    logged(tmp_path, 'loss')


def test_what_is_not_finite_stays_visible_and_valid(tmp_path):
  values = {'a': float('nan'), 'b': jnp.inf, 'c': jnp.float32(-jnp.inf)}
  with MetricLog(tmp_path, resume_step=0) as log:
    log.write(1, 1, values)
  text = (tmp_path / METRICS).read_text()
  row = json.loads(text, parse_constant=pytest.fail)
  assert (row['a'], row['b'], row['c']) == ('nan', 'inf', '-inf')
  assert float(row['c']) == -jnp.inf


def test_a_scalar_cannot_replace_the_step(tmp_path):
  with MetricLog(tmp_path, resume_step=0) as log:
    with pytest.raises(ValueError, match="'step'"):
      log.write(1, 1, {'step': 2.0})


@pytest.mark.parametrize('tail', ['', '{"step": 9, "fid": 0.', '{"step": 9}'])
def test_the_values_of_one_scalar_are_read_back(tmp_path, tail):
  """Also from a file whose last line was truncated by a kill."""
  assert logged(tmp_path / 'none', 'fid') == {}
  with MetricLog(tmp_path, resume_step=0) as log:
    for step in range(1, 5):
      log.write(step, step, {'loss': step})
    log.write(2, 2, {'fid': 0.5})
    log.write(4, 4, {'fid': jnp.inf, 'kid': 1.0})
  with (tmp_path / METRICS).open('a') as file:
    file.write(tail)
  assert logged(tmp_path, 'fid') == {2: 0.5, 4: jnp.inf}
  assert logged(tmp_path, 'loss') == {1: 1, 2: 2, 3: 3, 4: 4}
  assert logged(tmp_path, 'none') == {}


def test_parameters_are_listed_abstractly(caplog):
  caplog.set_level('INFO', logger='absl')
  model = nnx.eval_shape(
    lambda: MLP(DataSpec.labelled((2,), 3), width=8, rngs=nnx.Rngs(0))
  )
  state = nnx.state(model)
  log_parameters('student', state)
  (message,) = [record.message for record in caplog.records]
  assert message.startswith('Parameters of student:\n')
  assert 'first/kernel' in message and '(2, 8)' in message
  total = sum(leaf.size for leaf in jax.tree.leaves(state))
  assert f'Total: {total:,}' in message


def test_no_tensorflow():
  modules = ['lengths', 'optim', 'ema', 'checkpoint', 'sharding']
  modules += ['log', 'progress', 'json_files']
  code = f"""
import importlib, sys
for name in {modules}:
  importlib.import_module('flowdistill.training.' + name)
print([m for m in ('tensorflow', 'torch') if m in sys.modules])
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.stdout == '[]\n', done.stderr


def test_a_full_disk_is_named_when_the_log_is_closed(tmp_path):
  """What could not be written is tried again by Python when a file closes."""
  log = MetricLog(tmp_path, resume_step=0)
  log.lines.close()
  with open('/dev/full', 'w') as log.lines:
    log.lines.write('a line')
    with pytest.raises(OSError, match=r'No space left .*/dev/full'):
      log.close()


def test_a_full_disk_is_named_when_a_line_is_written(tmp_path):
  log = MetricLog(tmp_path, resume_step=0, trackers=())
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
  try:
    with pytest.raises(OSError, match=f'File too large.*{METRICS}'):
      log.write(1, 2, {'loss': 3.0})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  log.close()
  assert rows(tmp_path) == [{'step': 1, 'images': 2, 'loss': 3.0}]
