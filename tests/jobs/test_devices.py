"""The same training on one device and on several, within float tolerance."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from jobs import tiny

COMMAND = (
  '--config.stages.distil.evaluators={}',
  '--config.train.batch_size=24',
  '--config.train.steps=3',
)


def train(workdir, devices, *more):
  flags = f'--xla_force_host_platform_device_count={devices}'
  command = [sys.executable, '-m', 'flowdistill.main', '--config', tiny.TOY]
  return subprocess.run(
    [*command, '--workdir', str(workdir), *COMMAND, *more],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags},
    capture_output=True,
    text=True,
  )


def losses(workdir):
  lines = (workdir / 'distil' / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


@pytest.fixture(scope='module')
def eight(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('eight')
  done = train(workdir, 8)
  assert done.returncode == 0, done.stderr
  return workdir


def test_eight_devices_train_as_one_does(eight, tmp_path):
  done = train(tmp_path, 1)
  assert done.returncode == 0, done.stderr
  np.testing.assert_allclose(losses(eight), losses(tmp_path), rtol=1e-4)
  one, many = (tiny.arrays(w / 'distil') for w in (tmp_path, eight))
  for name, array in one.items():
    np.testing.assert_allclose(array, many[name], rtol=1e-3, atol=1e-5)


def test_a_batch_that_does_not_divide_names_numbers_that_would(tmp_path):
  done = train(tmp_path, 8, '--config.train.batch_size=20')
  assert done.returncode == 2
  assert 'train.batch_size' in done.stderr
  assert '16 or 24' in done.stderr
  assert not list(tmp_path.iterdir())
