"""Pairs of a trained flow: the same bytes however they came about."""

import json
import shutil
import signal

import numpy as np
import pytest
from jobs import hosts, tiny
from jobs.pairing import contents, make

import flowdistill
from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.datasets.shards import read_array
from flowdistill.jobs import pairs, train
from flowdistill.stages import pairing, shards
from flowdistill.stages.assembly import batches
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.watchdog import AGAIN, Watchdog


def array(folder, name, shards=3):
  return np.concatenate([read_array(folder, k, name) for k in range(shards)])


def test_from_noise_they_are_what_the_flow_makes_of_it(made):
  folder = made[1] / 'pairs' / 'pairs'
  flow = flowdistill.load(made[1], stage='flow')
  drawn = flow.sample(50, sampler='heun', nfe=9)
  np.testing.assert_allclose(array(folder, 'x0'), drawn, atol=1e-5)
  manifest = json.loads((folder / 'manifest.json').read_text())
  assert manifest['finished']
  assert manifest['mean_nfe'] == 9
  assert manifest['teacher'] == 'stage:flow at step 30, ema'
  assert not list(folder.glob('*.x1.npy'))  # noise takes no room


def test_reflow_learns_from_the_noise_that_made_them(made):
  """A batch names noise, and has what the flow makes of that."""
  spec = tiny.stages(made[0])['reflow']
  assembly = tiny.assembled(spec, made[1] / 'again', made[1])
  batch = next(batches(assembly, 0))
  assert sorted(batch) == ['cond', 'noise', 'null', 'x0']
  flow = flowdistill.load(made[1], stage='flow')
  drawn = flow.sample(50, sampler='heun', nfe=9)
  numbers = np.asarray(batch['noise'])[:, 1]
  np.testing.assert_allclose(batch['x0'], drawn[numbers], atol=1e-5)
  assert 'pairs' in assembly.references


def test_they_are_led_away_from_another_network(made):
  folder = made[1] / 'guided' / 'pairs'
  drawn = flowdistill.load(made[1], stage='distil')
  how = {'model': 'teacher', 'sampler': 'euler', 'nfe': 16}
  away = {'scale': 1.5, 'against': 'student'}
  wanted = drawn.sample(20, guidance=away, **how)
  found = array(folder, 'x0', 1)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert np.abs(found - drawn.sample(20, **how)).max() > 1e-3
  manifest = json.loads((folder / 'manifest.json').read_text())
  assert manifest['guides'] == {'weak': 'stage:distil at step 3, ema'}
  assert manifest['teacher'] == 'stage:flow at step 30, ema'


def test_a_student_is_led_away_from_its_teacher(made):
  out, away = made[1] / 'away', {'scale': 0.5, 'against': 'teacher'}
  how = {'sampler': 'euler', 'nfe': 8, 'guidance': away}
  options = {'count': 10, 'batch_size': 8, 'out': str(out)}
  make(made, stage='distil', **how, **options)
  wanted = flowdistill.load(made[1], stage='distil').sample(10, **how)
  np.testing.assert_allclose(array(out, 'x0', 1), wanted, atol=1e-5)


def test_from_data_they_are_images_and_the_noise_that_leads_to_them(made):
  out = made[1] / 'from_data'
  make(
    made,
    stage='flow',
    direction='from_data',
    count=30,
    sampler='heun',
    nfe=200,
    batch_size=16,
    shard_size=16,
    out=str(out),
  )
  source = tiny.blueprint(tiny.stages(made[0])['flow'], made[1], made[1]).data
  np.testing.assert_array_equal(
    array(out, 'x0', 2), source[np.arange(30)]['x0']
  )
  flow = flowdistill.load(made[1], stage='flow')
  x1 = flow.encode(array(out, 'x0', 2), sampler='heun', nfe=200)
  np.testing.assert_allclose(array(out, 'x1', 2), x1, atol=1e-5)


def test_at_random_there_is_no_flow(made):
  out = made[1] / 'random'
  make(
    made,
    stage='flow',
    direction='random',
    count=30,
    shard_size=20,
    out=str(out),
  )
  source = tiny.blueprint(tiny.stages(made[0])['flow'], made[1], made[1]).data
  expected = source[np.arange(30) % len(source)]['x0']
  np.testing.assert_array_equal(array(out, 'x0', 2), expected)
  manifest = json.loads((out / 'manifest.json').read_text())
  assert 'teacher' not in manifest
  assert manifest['noise'] == 'drawn'


def test_a_part_that_is_missing_is_made_again_to_the_byte(made):
  folder = made[1] / 'pairs' / 'pairs'
  whole = contents(folder)
  (folder / '00001.sha256').unlink()
  (folder / '00001.x0.npy').write_bytes(b'half')
  make(made)
  assert contents(folder) == whole


def test_what_is_finished_stays(made, capsys):
  folder = made[1] / 'pairs' / 'pairs'
  before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  make(made, stage='pairs')
  assert 'pairs: finished before' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def begun(made, workdir):
  """A workdir with the flow alone, and many pairs to make."""
  more = ('stages.pairs.count=1200', 'stages.pairs.batch_size=4')
  shutil.copytree(made[1] / 'flow', workdir / 'flow')
  return more, workdir / 'pairs' / 'pairs'


@pytest.fixture(scope='module')
def undisturbed(made, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  more, folder = begun(made, workdir)
  tiny.run(pairs, tiny.stages(made[0], *more), workdir, pairs.Options())
  assert len(list(folder.glob('*.x0.npy'))) == 60
  return contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, AGAIN)]
)
def test_after_a_kill_they_end_in_the_same_bytes(
  made, undisturbed, tmp_path, number, code
):
  more, folder = begun(made, tmp_path)
  process = tiny.start(tmp_path, made[0], *more, job='pairs')
  part = folder / '00001.x0.npy.part'
  tiny.send_when(process, part.exists, number)
  assert process.returncode == code
  assert not json.loads((folder / 'manifest.json').read_text())['finished']
  tiny.run(pairs, tiny.stages(made[0], *more), tmp_path, pairs.Options())
  assert contents(folder) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 3])
def test_several_hosts_write_the_bytes_of_one(made, tmp_path, count):
  config, workdir = made
  shutil.copytree(workdir / 'flow', tmp_path / 'flow')
  processes = hosts.start_all(tmp_path, config, '--job=pairs', count=count)
  for code, _, errors in hosts.end_all(processes):
    assert code == 0, errors
  one = contents(workdir / 'pairs' / 'pairs')
  assert contents(tmp_path / 'pairs' / 'pairs') == one


@pytest.mark.slow
def test_two_hosts_go_from_pairs_to_what_learns_from_them(made, tmp_path):
  """A host does not go on before the pairs are said to be finished."""
  config, workdir = made
  for code, _, errors in hosts.end_all(hosts.start_all(tmp_path, config)):
    assert code == 0, errors
  there, here = (tiny.arrays(w / 'reflow') for w in (tmp_path, workdir))
  for name, array in here.items():
    np.testing.assert_allclose(there[name], array, atol=1e-4, err_msg=name)


def test_a_host_waits_until_another_has_finished(made, tmp_path, monkeypatch):
  config, workdir = made
  folder = tmp_path / 'pairs' / 'pairs'
  shutil.copytree(workdir / 'pairs', tmp_path / 'pairs')
  shutil.copytree(workdir / 'flow', tmp_path / 'flow')
  manifest = (folder / 'manifest.json').read_text()
  open_one = manifest.replace('"finished": true', '"finished": false')
  open_one = open_one.rstrip()  # its checksum is of another text
  (folder / 'manifest.json').write_text(open_one)
  looks = []

  def nothing_is_left_to_write(*_):
    monkeypatch.setattr(shards.jax, 'process_index', lambda: 1)

  def sleep(_):
    looks.append(1)
    (folder / 'manifest.json').write_text(manifest)

  monkeypatch.setattr(shards, 'write_shards', nothing_is_left_to_write)
  monkeypatch.setattr(shards.time, 'sleep', sleep)
  blueprint = Blueprints(tiny.stages(config), tmp_path)['pairs']
  quiet = Watchdog(tmp_path / 'hosts', 0, 1, 60)
  pairing.make_pairs(blueprint, folder, quiet)
  assert looks == [1]


@pytest.mark.slow
def test_several_devices_share_a_batch(made, tmp_path):
  config, workdir = made
  shutil.copytree(workdir / 'flow', tmp_path / 'flow')
  process = hosts.start(tmp_path, config, 4, '--job=pairs')
  ((code, _, errors),) = hosts.end_all([process])
  assert code == 0, errors
  there, here = (w / 'pairs' / 'pairs' for w in (tmp_path, workdir))
  np.testing.assert_allclose(array(there, 'x0'), array(here, 'x0'), atol=1e-5)


def test_one_stage_can_be_run_alone(made, tmp_path):
  config, _ = made
  stages = tiny.stages(config)
  for name in ('flow', 'pairs'):
    tiny.run(train, stages, tmp_path, train.Options(stage=name))
  assert (tmp_path / 'pairs' / 'pairs' / 'manifest.json').is_file()
  assert not (tmp_path / 'reflow').exists()
  assert flowdistill.load(tmp_path).folder == tmp_path / 'flow'


def test_pairs_of_slimflow_are_learnt_from(tmp_path):
  """Noise is their z0, and data their z1."""
  z1 = np.tile(np.arange(8, dtype=np.float32)[:, None, None, None], (8, 8))
  (tmp_path / 'slim' / '0').mkdir(parents=True)
  for name, value in (('z0', z1 + 1), ('z1', z1), ('label', np.arange(8))):
    np.save(tmp_path / 'slim' / '0' / f'{name}.npy', value)
  config = tmp_path / 'reflow.py'
  config.write_text(f"""
def get_config(arg=''):
  return {{
    'dataset': 'digits',
    'network': {{'name': 'dit', 'width': 8, 'depth': 1, 'heads': 1}},
    'pairs': {str(tmp_path / 'slim')!r},
    'objective': {{'name': 'rectified_flow', 'coupling': 'annealed'}},
    'train': {{'steps': 2, 'batch_size': 4}},
  }}
""")
  (spec,) = tiny.stages(config).values()
  tiny.check_here({ONE_STAGE: spec}, tmp_path)
  batch = next(batches(tiny.assembled(spec, tmp_path / 'w', tmp_path), 0))
  assert batch['x0'].shape == batch['x1'].shape == (4, 8, 8, 1)
  np.testing.assert_array_equal(batch['x0'][:, 0, 0, 0], batch['cond']['label'])
  np.testing.assert_array_equal(batch['x1'], batch['x0'] + 1)


@pytest.mark.slow
def test_a_config_that_only_makes_pairs_has_nothing_else_to_do(made, tmp_path):
  config = tmp_path / 'alone.py'
  flow = made[1] / 'flow'
  config.write_text(f"""
def get_config(arg=''):
  return {{
    'job': 'pairs', 'dataset': 'gaussians', 'teacher': {str(flow)!r},
    'count': 4, 'batch_size': 4, 'sampler': 'euler', 'nfe': 1,
  }}
""")
  process = tiny.start(tmp_path / 'w', config, job='evaluate')
  assert (
    'error: --job=evaluate: no stage of this config trains'
    in (process.communicate()[0])
  )
  assert process.returncode == 2
  stages = tiny.stages(config)
  assert tiny.run(train, stages, tmp_path / 'w', train.Options()) == []
  assert (tmp_path / 'w' / 'pairs' / 'manifest.json').is_file()
