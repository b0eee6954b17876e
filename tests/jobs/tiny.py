"""Runs that are small enough for a test, in this process or in one of ours."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np

from flowdistill.config.overrides import parse_override
from flowdistill.datasets import DATASETS
from flowdistill.jobs import compare, pairs, train
from flowdistill.networks import NETWORKS
from flowdistill.objectives import OBJECTIVES
from flowdistill.stages.assembly import assemble
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import check_stages, load_stages
from flowdistill.training import checkpoint

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
TOY = f'{CONFIGS / "toys.py"}:runlocal'
UNMEASURED = ('stages.distil.evaluators={}', 'evaluation.features=none')


@contextlib.contextmanager
def own_tables():
  """While it is open, configs may put entries of their own into tables."""
  tables = (DATASETS, NETWORKS, OBJECTIVES)
  before = [dict(table) for table in tables]
  try:
    yield
  finally:
    for table, entries in zip(tables, before, strict=True):
      table.clear()
      table.update(entries)


def stages(source, *overrides):
  """Resolved stages of a config with 'KEY=VALUE' overrides."""
  parsed = []
  for text in overrides:
    key, _, value = text.partition('=')
    parsed.append(parse_override(f'config.{key}', value))
  return load_stages(str(source), parsed)


def check_here(specs, workdir):
  """Checks resolved stages; returns their blueprints."""
  blueprints = Blueprints(specs, workdir, recorded=False)
  check_stages(blueprints)
  return blueprints


def train_here(workdir, source, *overrides):
  """Checks and trains in this process; returns the rows."""
  blueprints = check_here(stages(source, *overrides), workdir)
  return train.run(blueprints, train.Options())


def blueprint(spec, folder, workdir):
  """The blueprint of one resolved stage, in any folder."""
  only = Blueprints({folder.name: spec}, workdir, recorded=False, home=folder)
  return only[folder.name]


def assembled(spec, folder, workdir):
  """One resolved stage with its arrays, in any folder."""
  return assemble(blueprint(spec, folder, workdir), workdir)


def run(job, specs, workdir, options):
  """Runs a job on resolved stages, as main does."""
  recorded = job not in (train, compare, pairs)
  return job.run(Blueprints(specs, workdir, recorded=recorded), options)


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
  abstract = Blueprints({}, folder.parent).at(str(folder)).state
  return checkpoint.by_name(
    checkpoint.restore(folder / 'checkpoints', abstract)
  )


def assert_same_bytes(a, b):
  assert list(a) == list(b)
  for name, array in a.items():
    left, right = np.asarray(array), np.asarray(b[name])
    assert left.dtype == right.dtype
    assert left.tobytes() == right.tobytes(), name
