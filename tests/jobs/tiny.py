"""Runs that are small enough for a test, in this process or in one of ours."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np

from flowdistill.build import objects as build
from flowdistill.config.files import ONE_STAGE
from flowdistill.config.overrides import parse_override
from flowdistill.jobs import train
from flowdistill.stages import check
from flowdistill.training import checkpoint
from flowdistill.workdir import origins

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
TOY = f'{CONFIGS / "toys.py"}:runlocal'
UNMEASURED = ('stages.distil.evaluators={}', 'evaluation.features=none')


def stages(source, *overrides):
  """Resolved stages of a config with 'KEY=VALUE' overrides."""
  parsed = []
  for text in overrides:
    key, _, value = text.partition('=')
    parsed.append(parse_override(f'config.{key}', value))
  return build.load_stages(str(source), parsed)


def train_here(workdir, source, *overrides):
  """Checks and trains in this process; returns the rows."""
  resolved = stages(source, *overrides)
  check.check_stages(resolved, workdir, named=ONE_STAGE not in resolved)
  return train.run(resolved, workdir, train.Options())


def start(workdir, source, *overrides, job='train', options=()):
  """Starts the command in a process of its own."""
  command = [sys.executable, '-m', 'flowdistill.main', '--config', str(source)]
  command += ['--workdir', str(workdir), '--job', job]
  command += [f'--config.{text}' for text in overrides]
  command += [f'--{text}' for text in options]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )


def send_when(process, ready, number=signal.SIGKILL, seconds=120):
  """Sends a signal as soon as `ready()`; returns the output."""
  end = time.monotonic() + seconds
  while not ready():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < end, 'it was never ready'
    time.sleep(0.002)
  process.send_signal(number)
  return process.communicate(timeout=60)[0]


def arrays(folder):
  """Every array of the last checkpoint in a stage's folder, by name."""
  stage = build.bind_stage(origins.load_spec(folder))
  abstract = build.abstract_state(stage, stage.dataset())
  return checkpoint.by_name(
    checkpoint.restore(folder / 'checkpoints', abstract)
  )


def assert_same_bytes(a, b):
  assert list(a) == list(b)
  for name, array in a.items():
    left, right = np.asarray(array), np.asarray(b[name])
    assert left.dtype == right.dtype
    assert left.tobytes() == right.tobytes(), name
