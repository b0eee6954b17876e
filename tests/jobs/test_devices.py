"""The same training on one device and on several, within float tolerance."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from jobs import tiny

from flowdistill.training.checkpoint import completed_steps

COMMAND = (
  '--config.stages.distil.evaluators={}',
  '--config.train.batch_size=24',
  '--config.train.steps=3',
)


def start(workdir, devices, *more):
  flags = f'--xla_force_host_platform_device_count={devices}'
  command = [sys.executable, '-m', 'flowdistill.main', '--config', tiny.TOY]
  return subprocess.Popen(
    [*command, '--workdir', str(workdir), *COMMAND, *more],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def losses(workdir):
  lines = (workdir / 'distil' / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """The workdir of a run on one device."""
  workdir = tmp_path_factory.mktemp('one')
  process = start(workdir, 1)
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 0, errors
  return workdir


def assert_as_one(one, many):
  np.testing.assert_allclose(losses(one), losses(many), rtol=1e-4)
  ours, theirs = (tiny.arrays(w / 'distil') for w in (one, many))
  for name, array in ours.items():
    np.testing.assert_allclose(array, theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
  'mesh',
  [
    pytest.param('data=8', marks=pytest.mark.slow),
    'data=2,fsdp=2,tensor=2',
  ],
)
def test_eight_devices_train_as_one_does(one, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  process = start(tmp_path, 8, *axes)
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 0, errors
  assert_as_one(one, tmp_path)


@pytest.mark.parametrize(
  'mesh',
  [
    'data=-1',
    'data=1,tensor=4',  # each host loads the whole batch
    pytest.param('data=1,fsdp=4', marks=pytest.mark.slow),
    pytest.param('data=2,tensor=2', marks=pytest.mark.slow),
  ],
)
def test_two_processes_train_as_one_does(one, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  both = two_hosts(tmp_path, *axes)
  printed = [process.communicate(timeout=120) for process in both]
  assert [process.returncode for process in both] == [0, 0], printed
  assert 'results and pictures' in printed[0][0]
  assert 'distil' not in printed[1][0]  # one host shows progress
  assert_as_one(one, tmp_path)


def test_a_batch_that_does_not_divide_names_numbers_that_would(tmp_path):
  process = start(tmp_path, 8, '--config.train.batch_size=20')
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 2
  assert 'train.batch_size' in errors
  assert '16 or 24' in errors
  assert not list(tmp_path.iterdir())


def test_a_mesh_that_does_not_make_up_the_devices_is_refused(tmp_path):
  process = start(tmp_path, 8, '--config.mesh.data=3')
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 2
  assert 'mesh: data = 3 x fsdp = 1 x tensor = 1 does not make up 8' in errors
  assert not list(tmp_path.iterdir())


def test_a_run_goes_on_upon_another_mesh(one, tmp_path):
  """From eight devices to four to one, in the first stage."""
  shutil.copytree(one / 'flow', tmp_path / 'flow')
  for devices, mesh, steps in (
    (8, ['--config.mesh.fsdp=4'], 1),
    (4, ['--config.mesh.tensor=2'], 2),
    (1, [], 3),
  ):
    more = [*mesh, f'--config.stages.distil.train.steps={steps}']
    process = start(tmp_path, devices, *more)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
  assert_as_one(one, tmp_path)


def two_hosts(workdir, *more):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  hosts = ['--distributed', f'--coordinator={address}', '--num_processes=2']
  return [
    start(workdir, 2, *hosts, f'--process_id={i}', *more) for i in range(2)
  ]


def at_step(workdir, step, processes):
  """Waits until that step of the second stage is in its metrics."""
  path = workdir / 'distil' / 'metrics.jsonl'
  while not path.is_file() or len(path.read_text().splitlines()) < step:
    for process in processes:
      assert process.poll() is None, process.communicate()
    time.sleep(0.02)


LONG = ('--config.stages.distil.train.steps=2000', '--config.log.every=1')


@pytest.mark.parametrize(
  'told',
  [signal.SIGSTOP, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)],
)
def test_a_host_that_freezes_or_dies_is_named(told, tmp_path):
  both = two_hosts(tmp_path, *LONG, '--config.hosts.timeout=5')
  at_step(tmp_path, 5, both)
  both[1].send_signal(told)
  started = time.monotonic()
  errors = both[0].communicate(timeout=60)[1]
  took = time.monotonic() - started
  both[1].kill()
  both[1].communicate()
  assert both[0].returncode == 75, errors
  assert 'error: process 1 did not arrive at step' in errors
  assert 'has given no sign of life for 5 s' in errors
  assert took < 20


def test_hosts_stop_together_when_one_is_told(tmp_path):
  both = two_hosts(tmp_path, *LONG)
  at_step(tmp_path, 5, both)
  both[1].send_signal(signal.SIGTERM)
  printed = [process.communicate(timeout=60) for process in both]
  assert [process.returncode for process in both] == [75, 75], printed
  assert 'distil: stopped and saved at step' in printed[0][0]
  assert len(completed_steps(tmp_path / 'distil' / 'checkpoints')) == 1
