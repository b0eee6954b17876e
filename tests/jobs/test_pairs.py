"""Pairs of a trained flow: the same bytes however they came about."""

import json
import shutil
import signal

import numpy as np
import pytest
from jobs import hosts, tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.config.files import ONE_STAGE
from flowdistill.datasets.shards import read_array
from flowdistill.jobs import JOBS, pairs, train
from flowdistill.stages import pairing, shards
from flowdistill.stages.assembly import batches
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import check_options, parse_options
from flowdistill.training.watchdog import AGAIN, Watchdog

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  stages = {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 30}},
    'distil': {
      'objective': {'name': 'mean_flow', 'distil': True},
      'frozen': {'teacher': 'stage:flow'}, 'train': {'steps': 3},
    },
    'pairs': {
      'job': 'pairs', 'teacher': 'stage:flow', 'sampler': 'heun', 'nfe': 9,
      'count': 50, 'shard_size': 20, 'batch_size': 8,
    },
    'guided': {
      'job': 'pairs', 'teacher': 'stage:flow', 'sampler': 'euler', 'nfe': 16,
      'guides': {'weak': 'stage:distil'}, 'count': 20, 'batch_size': 8,
      'options': {'guidance': {'scale': 1.5, 'against': 'weak'}},
    },
    'reflow': {
      'pairs': 'stage:pairs', 'init_from': 'stage:flow',
      'objective': {'name': 'rectified_flow', 'coupling': 'paired'},
      'train': {'steps': 4},
    },
  }
  return ConfigDict({
    'dataset': {'name': 'gaussians'},
    'network': {'name': 'mlp', 'width': 16, 'depth': 1},
    'train': {'batch_size': 32},
    'stages': stages,
  }, sort_keys=False)
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config file, workdir) of a run with all its stages."""
  folder = tmp_path_factory.mktemp('run')
  config = folder / 'road.py'
  config.write_text(CONFIG)
  tiny.train_here(folder / 'w', config)
  return config, folder / 'w'


def make(run, **options):
  config, workdir = run
  return tiny.run(pairs, tiny.stages(config), workdir, pairs.Options(**options))


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def array(folder, name, shards=3):
  return np.concatenate([read_array(folder, k, name) for k in range(shards)])


def test_from_noise_they_are_what_the_flow_makes_of_it(run):
  folder = run[1] / 'pairs' / 'pairs'
  flow = flowdistill.load(run[1], stage='flow')
  drawn = flow.sample(50, sampler='heun', nfe=9)
  np.testing.assert_allclose(array(folder, 'x0'), drawn, atol=1e-5)
  made = json.loads((folder / 'manifest.json').read_text())
  assert made['finished']
  assert made['mean_nfe'] == 9
  assert made['teacher'] == 'stage:flow at step 30, ema'
  assert not list(folder.glob('*.x1.npy'))  # noise takes no room


def test_reflow_learns_from_the_noise_that_made_them(run):
  """A batch names noise, and has what the flow makes of that."""
  spec = tiny.stages(run[0])['reflow']
  assembly = tiny.assembled(spec, run[1] / 'again', run[1])
  batch = next(batches(assembly, 0))
  assert sorted(batch) == ['cond', 'noise', 'null', 'x0']
  flow = flowdistill.load(run[1], stage='flow')
  drawn = flow.sample(50, sampler='heun', nfe=9)
  numbers = np.asarray(batch['noise'])[:, 1]
  np.testing.assert_allclose(batch['x0'], drawn[numbers], atol=1e-5)
  assert 'pairs' in assembly.references


def test_they_are_led_away_from_another_network(run):
  folder = run[1] / 'guided' / 'pairs'
  drawn = flowdistill.load(run[1], stage='distil')
  how = {'model': 'teacher', 'sampler': 'euler', 'nfe': 16}
  away = {'scale': 1.5, 'against': 'student'}
  wanted = drawn.sample(20, guidance=away, **how)
  found = array(folder, 'x0', 1)
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  assert np.abs(found - drawn.sample(20, **how)).max() > 1e-3
  made = json.loads((folder / 'manifest.json').read_text())
  assert made['guides'] == {'weak': 'stage:distil at step 3, ema'}
  assert made['teacher'] == 'stage:flow at step 30, ema'


def test_a_student_is_led_away_from_its_teacher(run):
  out, away = run[1] / 'away', {'scale': 0.5, 'against': 'teacher'}
  how = {'sampler': 'euler', 'nfe': 8, 'guidance': away}
  options = {'count': 10, 'batch_size': 8, 'out': str(out)}
  make(run, stage='distil', **how, **options)
  wanted = flowdistill.load(run[1], stage='distil').sample(10, **how)
  np.testing.assert_allclose(array(out, 'x0', 1), wanted, atol=1e-5)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      'options={}',
      r'stages.guided.guides.weak has no effect: options has no guidance',
    ),
    (
      "guides={'teacher': 'stage:flow'}",
      r"config.stages.guided.guides = \['teacher'\] must not contain 'teacher'",
    ),
    (
      "guides={'week': 'stage:distil'}",
      r"config.stages.guided: guid.* must be against one of \['null', 'week'\]",
    ),
    (
      "guides={'weak': 'stage:distill'}",
      r"guides.weak = 'stage:distill' must be an earlier stage",
    ),
  ],
)
def test_what_cannot_guide_pairs(run, tmp_path, given, message):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(run[0], f'stages.guided.{given}'), tmp_path)


def test_from_data_they_are_images_and_the_noise_that_leads_to_them(run):
  out = run[1] / 'from_data'
  make(
    run,
    stage='flow',
    direction='from_data',
    count=30,
    sampler='heun',
    nfe=200,
    batch_size=16,
    shard_size=16,
    out=str(out),
  )
  source = tiny.blueprint(tiny.stages(run[0])['flow'], run[1], run[1]).data
  np.testing.assert_array_equal(
    array(out, 'x0', 2), source[np.arange(30)]['x0']
  )
  flow = flowdistill.load(run[1], stage='flow')
  x1 = flow.encode(array(out, 'x0', 2), sampler='heun', nfe=200)
  np.testing.assert_allclose(array(out, 'x1', 2), x1, atol=1e-5)


def test_at_random_there_is_no_flow(run):
  out = run[1] / 'random'
  make(
    run,
    stage='flow',
    direction='random',
    count=30,
    shard_size=20,
    out=str(out),
  )
  source = tiny.blueprint(tiny.stages(run[0])['flow'], run[1], run[1]).data
  expected = source[np.arange(30) % len(source)]['x0']
  np.testing.assert_array_equal(array(out, 'x0', 2), expected)
  made = json.loads((out / 'manifest.json').read_text())
  assert 'teacher' not in made
  assert made['noise'] == 'drawn'


def test_a_part_that_is_missing_is_made_again_to_the_byte(run):
  folder = run[1] / 'pairs' / 'pairs'
  whole = contents(folder)
  (folder / '00001.sha256').unlink()
  (folder / '00001.x0.npy').write_bytes(b'half')
  make(run)
  assert contents(folder) == whole


def test_what_is_finished_stays(run, capsys):
  folder = run[1] / 'pairs' / 'pairs'
  before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  make(run, stage='pairs')
  assert 'pairs: finished before' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def begun(run, workdir):
  """A workdir with the flow alone, and many pairs to make."""
  more = ('stages.pairs.count=1200', 'stages.pairs.batch_size=4')
  shutil.copytree(run[1] / 'flow', workdir / 'flow')
  return more, workdir / 'pairs' / 'pairs'


@pytest.fixture(scope='module')
def undisturbed(run, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  more, folder = begun(run, workdir)
  tiny.run(pairs, tiny.stages(run[0], *more), workdir, pairs.Options())
  assert len(list(folder.glob('*.x0.npy'))) == 60
  return contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, AGAIN)]
)
def test_after_a_kill_they_end_in_the_same_bytes(
  run, undisturbed, tmp_path, number, code
):
  more, folder = begun(run, tmp_path)
  process = tiny.start(tmp_path, run[0], *more, job='pairs')
  part = folder / '00001.x0.npy.part'
  tiny.send_when(process, part.exists, number)
  assert process.returncode == code
  assert not json.loads((folder / 'manifest.json').read_text())['finished']
  tiny.run(pairs, tiny.stages(run[0], *more), tmp_path, pairs.Options())
  assert contents(folder) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 3])
def test_several_hosts_write_the_bytes_of_one(run, tmp_path, count):
  config, workdir = run
  shutil.copytree(workdir / 'flow', tmp_path / 'flow')
  processes = hosts.start_all(tmp_path, config, '--job=pairs', count=count)
  for code, _, errors in hosts.end_all(processes):
    assert code == 0, errors
  one = contents(workdir / 'pairs' / 'pairs')
  assert contents(tmp_path / 'pairs' / 'pairs') == one


@pytest.mark.slow
def test_two_hosts_go_from_pairs_to_what_learns_from_them(run, tmp_path):
  """A host does not go on before the pairs are said to be finished."""
  config, workdir = run
  for code, _, errors in hosts.end_all(hosts.start_all(tmp_path, config)):
    assert code == 0, errors
  there, here = (tiny.arrays(w / 'reflow') for w in (tmp_path, workdir))
  for name, array in here.items():
    np.testing.assert_allclose(there[name], array, atol=1e-4, err_msg=name)


def test_a_host_waits_until_another_has_finished(run, tmp_path, monkeypatch):
  config, workdir = run
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
def test_several_devices_share_a_batch(run, tmp_path):
  config, workdir = run
  shutil.copytree(workdir / 'flow', tmp_path / 'flow')
  process = hosts.start(tmp_path, config, 4, '--job=pairs')
  ((code, _, errors),) = hosts.end_all([process])
  assert code == 0, errors
  there, here = (w / 'pairs' / 'pairs' for w in (tmp_path, workdir))
  np.testing.assert_allclose(array(there, 'x0'), array(here, 'x0'), atol=1e-5)


BACK = {'stage': 'flow', 'direction': 'from_data', 'count': 9}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'stage': 'pairs', 'count': 3},
      "'pairs' makes pairs by its own keys",
    ),
    ({'stage': 'flow', 'count': 0}, 'count = 0 must be at least 1'),
    ({'stage': 'flow', 'seed': 2**32}, r'seed = 4294967296 must be an integer'),
    ({'stage': 'flow', 'direction': 'back'}, "direction = 'back' must be in"),
    (
      {'stage': 'flow', 'nfe': 3},
      "--nfe = 3 must be None for 'rk45'",
    ),
    (
      BACK | {'count': 10**6},
      r'--count = 1000000 must be at most \d+, the size of',
    ),
    (
      BACK | {'sampler': 'few', 'nfe': 2},
      '--sampler = .few. must be a solver',
    ),
  ],
)
def test_what_cannot_be_made_raises(run, options, message):
  with pytest.raises(ConfigError, match=message):
    make(run, **options)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ('direction=from_data sampler=heun nfe=200', None),
    ('direction=from_data sampler=euler nfe=3', None),
    ('direction=from_data sampler=rk45 nfe=none', None),
    ('direction=from_noise sampler=heun nfe=9', None),
    ('direction=random seed=3', None),
    (
      'direction=from_data sampler=heun nfe=9',
      '--sampler=heun --nfe=9: nfe = 9 is not possible for heun; the '
      'nearest are 8 and 10',
    ),
    (
      'direction=from_noise sampler=heun nfe=200',
      '--sampler=heun --nfe=200: nfe = 200 is not possible for heun',
    ),
    (
      'direction=from_data sampler=flow_map nfe=2',
      'sampler = .flow_map. must be a solver of the ODE',
    ),
    (
      'direction=random nfe=3',
      '--nfe=3 has no effect with --direction=random: no flow',
    ),
    (
      'sampler=euler nfe=4 guidance=scale=2,against=weak',
      r"must be against one of \['null'\]",
    ),
    ('direction=random sampler=heun', '--sampler=heun has no effect with'),
    ('direction=random weights=params', '--weights=params has no effect'),
  ],
)
def test_the_calls_are_those_of_the_direction(run, given, message):
  """Heun's last step to data is shorter than its first one from data."""
  pairs_of_text = [text.split('=', 1) for text in given.split()]
  options = parse_options(JOBS, 'pairs', pairs_of_text)
  of_run = Blueprints.of_run(run[1])
  if message is None:
    check_options(options, of_run, 'flow')
    return
  with pytest.raises(ConfigError, match=message):
    check_options(options, of_run, 'flow')


def test_a_folder_of_other_pairs_is_left_alone(run):
  config, workdir = run
  before = contents(workdir / 'pairs' / 'pairs')
  stages = tiny.stages(config, 'stages.pairs.seed=1')
  with pytest.raises(ConfigError, match=r'config\.seed was 0, is 1'):
    tiny.run(pairs, stages, workdir, pairs.Options())
  options = pairs.Options(stage='flow', out=str(workdir / 'pairs' / 'pairs'))
  with pytest.raises(ConfigError, match='holds other pairs'):
    tiny.run(pairs, tiny.stages(config), workdir, options)
  assert contents(workdir / 'pairs' / 'pairs') == before


def test_a_stage_does_not_go_on_with_other_pairs(run, tmp_path):
  config, workdir = run
  shutil.copytree(workdir, tmp_path / 'w')
  manifest = tmp_path / 'w' / 'pairs' / 'pairs' / 'manifest.json'
  text = manifest.read_text().rstrip()  # without its checksum
  manifest.write_text(text.replace('"mean_nfe": 9', '"x": 9'))
  with pytest.raises(
    ConfigError, match='was trained from other weights: .*pairs'
  ):
    tiny.run(
      train, tiny.stages(config), tmp_path / 'w', train.Options(stage='reflow')
    )


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      'stages.reflow.objective.coupling=independent',
      'reflow.pairs has no effect: the objective draws its own noise',
    ),
    ('stages.reflow.pairs=none', 'set `pairs` of the stage'),
    (
      'stages.reflow.pairs=stage:flow',
      'must be an earlier stage that makes pairs',
    ),
    ('stages.reflow.pairs=/nowhere', 'is not a store of pairs'),
    (
      'stages.reflow.init_from=stage:pairs',
      'must be an earlier stage that trains',
    ),
    ('stages.pairs.teacher=none', 'teacher = None must be set for direction'),
    ('stages.pairs.sampler=heum', "sampler = 'heum' does not exist"),
    ('stages.pairs.job=pair', r"pairs\.job = 'pair' does not exist"),
    ('stages.pairs.network=mlp', "has no key 'network'"),
  ],
)
def test_a_config_that_is_wrong_is_refused(run, override, message):
  with pytest.raises(ConfigError, match=message):
    tiny.train_here(run[1], run[0], override)


def test_one_stage_can_be_run_alone(run, tmp_path):
  config, _ = run
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
def test_a_config_that_only_makes_pairs_has_nothing_else_to_do(run, tmp_path):
  config = tmp_path / 'alone.py'
  flow = run[1] / 'flow'
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
