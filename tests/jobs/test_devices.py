"""The same training on one device and on several, within float tolerance."""

import json
import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest
from jobs import elastic, hosts, tiny

import flowdistill
from flowdistill.training.checkpoint import completed_steps

COMMAND = (
  '--config.stages.distil.evaluators={}',
  '--config.train.batch_size=24',
  '--config.train.steps=3',
)


def start(workdir, devices, *more):
  return hosts.start(workdir, tiny.TOY, devices, *COMMAND, *more)


def start_hosts(workdir, *more, count=2):
  """Several processes, with four devices between them."""
  spread = {'count': count, 'devices': 4 // count}
  return hosts.start_all(workdir, tiny.TOY, *COMMAND, *more, **spread)


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


@pytest.mark.slow
@pytest.mark.parametrize(
  'mesh',
  [
    'data=8',
    'data=2,fsdp=2,tensor=2',
  ],
)
def test_eight_devices_train_as_one_does(one, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  process = start(tmp_path, 8, *axes)
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 0, errors
  assert_as_one(one, tmp_path)


@pytest.mark.slow
def test_muon_on_eight_devices_is_as_on_one(tmp_path):
  """It orthogonalises whole matrices, of which a device has a part."""
  for name, devices, axes in (
    ('one', 1, ()),
    ('eight', 8, ('data=2', 'fsdp=2', 'tensor=2')),
  ):
    more = [f'--config.mesh.{axis}' for axis in axes]
    process = start(
      tmp_path / name, devices, '--config.optim.optimiser=muon', *more
    )
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors
  assert_as_one(tmp_path / 'one', tmp_path / 'eight')


@pytest.mark.parametrize(
  'mesh',
  [
    'data=-1',
    # each host loads the whole batch
    pytest.param('data=1,tensor=4', marks=pytest.mark.slow),
    pytest.param('data=1,fsdp=4', marks=pytest.mark.slow),
    pytest.param('data=2,tensor=2', marks=pytest.mark.slow),
  ],
)
def test_two_processes_train_as_one_does(one, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  assert_hosts_train_as_one(one, tmp_path, start_hosts(tmp_path, *axes))


@pytest.mark.slow
def test_four_processes_train_as_one_does(one, tmp_path):
  four = start_hosts(tmp_path, '--config.mesh.fsdp=2', count=4)
  assert_hosts_train_as_one(one, tmp_path, four)


def assert_hosts_train_as_one(one, workdir, processes):
  codes, outputs, errors = zip(*hosts.end_all(processes), strict=True)
  assert not any(codes), errors
  assert 'results and pictures' in outputs[0]
  assert not any('distil' in text for text in outputs[1:])  # one shows progress
  assert_as_one(one, workdir)


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
  assert 'mesh: data = 3 x fsdp = 1 x tensor = 1 must be 8 dev' in errors
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(one, tmp_path):
  shutil.copytree(one / 'flow', tmp_path / 'flow')
  options = [text.removeprefix('--config.') for text in COMMAND]
  tiny.train_here(tmp_path, tiny.TOY, *options, 'stages.distil.train.steps=1')
  ended = hosts.end_all(start_hosts(tmp_path))
  assert [code for code, *_ in ended] == [0, 0], ended
  assert 'distil: continues at step 1 of 3' in ended[0][1]
  assert_as_one(one, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('devices', 'axes'),
  [
    (8, 'fsdp=4'),
    (4, 'data=2,tensor=2'),
    (2, 'fsdp=2'),
  ],
)
def test_what_another_mesh_restores(one, devices, axes):
  """Every array to the byte, the next batch, and a loss that is as good."""
  axes = axes.split(',')
  here = elastic.restored(one / 'distil')
  there = elastic.restored_on(one / 'distil', devices, *axes)
  assert there['devices'] == devices
  assert there['arrays'] == here['arrays']
  assert there['batch'] == here['batch']
  np.testing.assert_allclose(there['loss'], here['loss'], rtol=1e-4)


def at_step(workdir, step, processes):
  """Waits until that step of the second stage is in its metrics."""
  path = workdir / 'distil' / 'metrics.jsonl'
  while not path.is_file() or len(path.read_text().splitlines()) < step:
    for process in processes:
      assert process.poll() is None, process.communicate()
    time.sleep(0.02)


LONG = ('--config.stages.distil.train.steps=2000', '--config.log.every=1')


# Two hosts that are killed, frozen and told to stop: see test_drill.py.


@pytest.mark.slow
@pytest.mark.parametrize('told', [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize('who', [0, 2])
def test_a_host_of_four_is_named_by_the_others(who, told, tmp_path):
  four = start_hosts(tmp_path, *LONG, '--config.hosts.timeout=5', count=4)
  at_step(tmp_path, 5, four)
  four[who].send_signal(told)
  started = time.monotonic()
  others = [process for process in four if process is not four[who]]
  ended = hosts.end_all(others)
  took = time.monotonic() - started
  four[who].kill()
  four[who].communicate()
  assert [code for code, *_ in ended] == [75, 75, 75], ended
  said = rf'error: process {who} did not arrive at step \d+: it has given no'
  assert all(re.search(said, errors) for _, _, errors in ended), ended
  assert took < 20


@pytest.mark.slow
def test_hosts_stop_together_when_one_is_told(tmp_path):
  both = start_hosts(tmp_path, *LONG)
  at_step(tmp_path, 5, both)
  both[1].send_signal(signal.SIGTERM)
  ended = hosts.end_all(both)
  assert [code for code, *_ in ended] == [75, 75], ended
  assert 'distil: stopped and saved at step' in ended[0][1]
  assert len(completed_steps(tmp_path / 'distil' / 'checkpoints')) == 1


def test_a_host_that_never_comes_is_waited_for_no_longer(tmp_path):
  here, away = start_hosts(tmp_path, '--config.hosts.timeout=2')
  away.kill()
  ((code, _, errors),) = hosts.end_all([here])
  away.communicate()
  assert code == 75
  said = 'error: not every process came to the start within 2 s'
  assert errors.splitlines()[-1] == said
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hosts_that_may_write_nothing_say_where():
  """A folder that refuses even root."""
  workdir = pathlib.Path('/sys/flowdistill')
  for code, _, errors in hosts.end_all(start_hosts(workdir)):
    assert code == 1
    assert f"'{workdir}" in errors.splitlines()[-1]
    assert 'Traceback' not in errors


@pytest.mark.slow
def test_hosts_draw_and_measure_what_one_does(one, tmp_path):
  """Two processes of two devices each, the weights sharded over them."""
  shutil.copytree(one, tmp_path / 'run')
  mesh = ['--config.mesh.fsdp=4', '--config.evaluation.batch_size=7']
  energy = {'name': 'energy', 'samples': 10}
  evaluators = f"--config.stages.distil.evaluators={{'energy': {energy}}}"
  draw = [
    '--job=generate',
    '--samples=10',
    '--nfe=2',
    f'--out={tmp_path / "out"}',
  ]
  for more in (draw, ['--job=evaluate', evaluators]):
    workdir = tmp_path / 'run'
    ended = hosts.end_all(start_hosts(workdir, *more, *mesh))
    assert [code for code, *_ in ended] == [0, 0], ended
  with np.load(tmp_path / 'out' / 'samples.npz') as saved:
    x = saved['x0']
  expected = flowdistill.load(one).sample(10, nfe=2)
  np.testing.assert_allclose(x, expected, atol=1e-4)
  results = tmp_path / 'run' / 'distil' / 'evaluations' / '00000003'
  rows = json.loads((results / 'results.json').read_text())
  assert {row['model'] for row in rows} == {'teacher', 'student'}
