"""Whatever is mistyped, wherever it is typed, ends in one line that teaches.

Every case is something that a user types, and what the line must begin with;
the choices that may follow are left off, for they grow with the tables. The
command runs in this process, with jobs that only note that they were reached;
one test runs it in its own, where the only platform of JAX does not exist.
"""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from absl import app, logging
from absl.testing import flagsaver

from flowdistill import main
from flowdistill.build.sampling_plan import combinations
from flowdistill.config.sampling import Samplings
from flowdistill.jobs import JOBS

ROOT = pathlib.Path(__file__).parents[1]
FILE = """
from ml_collections import ConfigDict
from flowdistill.config import choose

def get_config(arg=''):
  choose(arg, {'': None, 'large': None})
  raw = RAW
  CHANGE
  return ConfigDict(raw, sort_keys=False)
"""
POINTS = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 8, 'depth': 1},
  'objective': 'rectified_flow',
  'train': {'batch_size': 8, 'steps': 10},
  'ema': {'main': {'half_life': 5}},
  'evaluators': {
    'energy': {'name': 'energy', 'sweep': {'student': [['euler', 1]]}},
  },
}
IMAGES = {
  'dataset': 'digits',
  'network': {'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2},
  'objective': 'rectified_flow',
  'train': {'batch_size': 8, 'steps': 10},
  'evaluation': {'features': 'digits'},
  'evaluators': {
    'few_step': {'name': 'few_step', 'sweep': {'student': [['euler', 1]]}},
  },
}
STAGES = {
  'dataset': {'name': 'moons', 'size': 64},
  'network': {'name': 'mlp', 'width': 8, 'depth': 1},
  'train': {'batch_size': 8},
  'ema': {'main': {'half_life': 5}},
  'stages': {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 10}},
    'distil': {
      'init_from': 'stage:flow',
      'frozen': {'teacher': 'stage:flow'},
      'objective': 'ayf_emd',
      'train': {'steps': 10},
      'evaluators': {'energy': 'energy', 'pictures': 'pictures'},
    },
  },
}

app.define_help_flags()  # once: flagsaver forgets what is defined inside it


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
  """Writes a config with a line of Python that changes it."""
  folder = tmp_path_factory.mktemp('configs')

  def write(raw, change='', name='experiment.py'):
    text = FILE.replace('RAW', repr(raw))
    lines = textwrap.indent(textwrap.dedent(change).strip(), '  ').strip()
    (folder / name).write_text(text.replace('CHANGE', lines))
    return folder / name

  return write


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
  """Types a command; returns the line that it ends in, or the job it reached.

  `W` in an argument stands for a workdir that nobody may touch.
  """
  reached = []
  workdir = tmp_path / 'workdir'
  verbosity = logging.get_verbosity()

  def reach(blueprints, options):
    reached.append((blueprints.specs, options))

  def without_absl(main, argv, flags_parser):
    flags_parser(argv)
    main(argv)

  for job in JOBS.values():
    monkeypatch.setattr(job, 'run', reach)
  monkeypatch.setattr(app, 'run', without_absl)

  def type_in(*arguments):
    reached.clear()
    arguments = [a.replace('W', str(workdir), 1) for a in arguments]
    monkeypatch.setattr(sys, 'argv', ['flowdistill', *arguments])
    with flagsaver.flagsaver():
      try:
        main.start()
        code = 0
      except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert not workdir.exists()
    if reached:
      assert (code, printed.err) == (0, '')
      return reached[0]
    assert code == 2
    assert printed.err.startswith('error: ')
    assert printed.err.count('\n') == 1
    return printed.err.removeprefix('error: ').strip()

  yield type_in
  logging.set_verbosity(verbosity)


def reads_as(message, expected):
  """Whether a message is the expected one, up to a list of choices."""
  rest = message.removeprefix(expected)
  return message.startswith(expected) and (
    not rest or 'he choices are' in rest or 'there are none' in rest
  )


# What is typed on the command line after a config of one stage, on points.
KEYS = {
  '--config.trian.steps=5': (
    "--config.trian.steps=5: config has no key 'trian'; did you mean 'train'?"
  ),
  '--config.train.stpes=5': (
    '--config.train.stpes=5: config.train has no key '
    "'stpes'; did you mean 'steps'?"
  ),
  '--config.network.wdith=5': (
    '--config.network.wdith=5: config.network has no key '
    "'wdith'; did you mean 'width'?"
  ),
  '--config.objective.times.hgih=1': (
    '--config.objective.times.hgih=1: config.objective.times has no key '
    "'hgih'; did you mean 'high'?"
  ),
  '--config.optim.schedule.warmup.epcohs=1': (
    '--config.optim.schedule.warmup.epcohs=1: config.optim.schedule.warmup '
    "has no key 'epcohs'; did you mean 'epochs'?"
  ),
  '--config.ema.mian.half_life=5': (
    "--config.ema.mian.half_life=5: config.ema has no key 'mian'; "
    "did you mean 'main'?"
  ),
  '--config.seed.x=5': (
    '--config.seed.x=5: config.seed is a value without keys'
  ),
  '--config.stages.flow.seed=5': (
    "--config.stages.flow.seed=5: config has no key 'stages';"
  ),
  '--config.train..steps=5': (
    '--config.train..steps must have the form --config.KEY[.KEY]=VALUE'
  ),
  '--config.=5': '--config. must have the form --config.KEY[.KEY]=VALUE',
  '--config.train.steps': (
    '--config.train.steps must have a value: --config.train.steps=VALUE'
  ),
}
NAMES = {
  '--config.dataset.name=moon': "'moon' does not exist; did you mean 'moons'?",
  '--config.network.name=mpl': "'mpl' does not exist; did you mean 'mlp'?",
  '--config.objective.name=rectified': (
    "'rectified' does not exist; did you mean 'rectified_flow'?"
  ),
  '--config.objective.times.name=unifrom': (
    "'unifrom' does not exist; did you mean 'uniform'?"
  ),
  '--config.objective.weight.name=uni': (
    "'uni' does not exist; did you mean 'uniform'?"
  ),
  '--config.objective.coupling.name=pair': (
    "'pair' does not exist; did you mean 'paired'?"
  ),
  '--config.optim.optimiser.name=adm': (
    "'adm' does not exist; did you mean 'adam'?"
  ),
  '--config.optim.schedule.name=cosin': (
    "'cosin' does not exist; did you mean 'cosine'?"
  ),
  '--config.evaluators.energy.name=enrgy': (
    "'enrgy' does not exist; did you mean 'energy'?"
  ),
  '--config.evaluation.features=digit': (
    "'digit' does not exist; did you mean 'digits'?"
  ),
}
TYPES = {
  '--config.train.steps=ten': "'ten' (str) must be int or None",
  '--config.train.steps=true': 'True (bool) must be int or None',
  '--config.train.steps=1.5': '1.5 (float) must be int or None',
  '--config.train.batch_size=none': 'None (None) must be int',
  '--config.train.batch_size=': "'' (str) must be int",
  '--config.train.drop_cond=[0.1]': '[0.1] (list) must be float',
  '--config.train=5': '5 (int) must be a dict with keys from',
  '--config.network=5': "5 (int) must be one of 'adm', 'dit', 'edm2', 'edm_",
  '--config.ema=5': '5 (int) must be a dict, name -> value',
  '--config.seed=1,2': '(1, 2) (tuple) must be int',
}
RANGES = {
  'network.dropout=1.5': 'dropout = 1.5 must lie in [0, 1)',
  'network.width=0': 'width = 0 must be at least 1',
  'network.width=7': 'width = 7 must be even',
  'network.depth=-1': 'depth = -1 must be at least 1',
  'network.max_frequency=0': 'max_frequency = 0.0 must be above 0',
  'optim.schedule.learning_rate=-1': 'learning_rate = -1.0 must be above 0',
  'optim.schedule.final=2': 'final = 2.0 must lie in [0, 1], a share of the',
  'optim.optimiser.b1=1': 'b1 = 1.0 must lie in [0, 1)',
  'optim.clip=0': 'clip = 0.0 must be above 0, or None',
  'optim.accumulate=0': 'accumulate = 0 must be at least 1',
  'optim.only=time.*': "only = 'time.*' must match a parameter, such as ",
  'train.batch_size=0': 'batch_size = 0 must be at least 1',
  'train.drop_cond=2': 'drop_cond = 2.0 must lie in [0, 1]',
  'seed=-1': 'seed = -1 must be an integer in [0, 2**32)',
  'log.every=0': 'every = 0 steps must be at least one step',
  'checkpoint.every.epochs=0': 'every = 0 epochs must be at least one step',
  'checkpoint.keep=0': 'keep = 0 must be at least 1',
  'evaluation.every=0': 'every = 0 steps must be at least one step',
  'evaluation.batch_size=0': 'batch_size = 0 must be at least 1',
  'ema.main.half_life=0': 'half_life = 0 steps must be above 0',
  'ema.main.ramp=0': 'ramp = 0.0 must be above 0, or None',
  'objective.times.low=-1': 'low = -1.0 must lie in [0, 1)',
  'objective.times.high=2': 'high = 2.0 must lie in (0.0, 1]',
  'dataset.noise=-1': 'noise = -1.0 must be at least 0',
  'dataset.split=tarin': "split = 'tarin' must be one of 'all', 'train'",
  'evaluators.energy.samples=1': 'samples = 1 must be at least 2',
}
LENGTHS = {
  '--config.train.steps=0': (
    'config.train: 0 steps: a stage must have at least one step'
  ),
  '--config.ema.main.half_life=-1': (
    'config.ema.main.half_life: a length must be finite and at least 0, got -1 '
    'steps'
  ),
  '--config.log.every=none': (
    'config.log.every: a length must be an integer (steps) or a dict with one '
    'of the keys steps, images, epochs, got None'
  ),
  "--config.optim.schedule.warmup={'steps': 1, 'epochs': 1}": (
    'config.optim.schedule.warmup: a length must be a dict with exactly one of '
    "the keys steps, images, epochs, got {'steps': 1, 'epochs': 1}"
  ),
  "--config.train={'steps': 5, 'epochs': 2}": (
    'config.train: a length must have exactly one of steps, images, epochs, '
    'got '
    "{'steps': 5, 'epochs': 2.0}"
  ),
  '--config.train.steps=none': (
    'config.train: a length must have exactly one of steps, images, epochs, '
    'got none'
  ),
}
EFFECTS = {
  '--config.train.flip=True': (
    'config.train.flip has no effect: these examples are not images'
  ),
  '--config.train.drop_cond=0.5': (
    'config.train.drop_cond has no effect: this data set has no conditions'
  ),
  '--config.frozen.teacher=stage:flow': (
    "config.frozen.teacher = 'stage:flow' must be an earlier "
    'stage that trains; there are none'
  ),
  '--config.objective.coupling=paired': (
    'config.objective.coupling: a coupling of pairs needs batches with x1, and'
  ),
  '--config.objective.name=ayf_emd': (
    'config.objective: this objective asks for nets.teacher, and the config '
    "fills only ['ema', 'student']: set 'frozen.teacher'"
  ),
  '--config.resume=stage:flow': (
    "config.resume = 'stage:flow' must be the folder of a stage; use "
    'init_from to start from an earlier stage of this config'
  ),
  '--config.init_from=nowhere': (
    'config.init_from: nowhere must be the folder of a run: there is no '
  ),
  '--config.resume=nowhere': (
    'config.resume: nowhere must be the folder of a run: there is no '
  ),
  '--config.init_from=7': (
    'config.init_from: 7 must be the folder of a run: there is no '
  ),
  '--config.resume=5': (
    'config.resume: 5 must be the folder of a run: there is no '
  ),
  '--config.init_from={}': "config.init_from: {} must be 'stage:NAME'",
}


@pytest.fixture(scope='module')
def points(configs):
  return f'--config={configs(POINTS, name="points.py")}'


@pytest.fixture(scope='module')
def images(configs):
  return f'--config={configs(IMAGES, name="images.py")}'


@pytest.fixture(scope='module')
def stages(configs):
  return f'--config={configs(STAGES, name="stages.py")}'


def test_the_configs_are_right_as_they_are(run, points, images, stages):
  for config in (points, images, stages):
    made, options = run(config, '--workdir=W')
    assert options == JOBS['train'].Options()
    assert all(spec['train']['steps'] == 10 for spec in made.values())


@pytest.mark.parametrize('typed', KEYS)
def test_a_key_that_does_not_exist(run, points, typed):
  assert reads_as(run(points, '--workdir=W', typed), KEYS[typed])


@pytest.mark.parametrize('typed', NAMES)
def test_a_name_that_does_not_exist(run, points, typed):
  key, _, _ = typed.removeprefix('--').partition('=')
  assert reads_as(run(points, '--workdir=W', typed), f'{key} = {NAMES[typed]}')


@pytest.mark.parametrize('typed', TYPES)
def test_a_value_of_another_type(run, points, typed):
  key, _, _ = typed.removeprefix('--').partition('=')
  message = run(points, '--workdir=W', typed)
  assert message.startswith(f'{key} = {TYPES[typed]}')


@pytest.mark.parametrize('typed', RANGES)
def test_a_value_out_of_range(run, points, typed):
  section = typed.partition('=')[0].removesuffix('.epochs').rpartition('.')[0]
  message = run(points, '--workdir=W', f'--config.{typed}')
  key = '.'.join(filter(None, ('config', section)))
  assert message.startswith(f'{key}.{RANGES[typed]}')


@pytest.mark.parametrize('typed', [*LENGTHS, *EFFECTS])
def test_a_length_or_a_source_that_cannot_be(run, points, typed):
  message = run(points, '--workdir=W', typed)
  assert message.startswith({**LENGTHS, **EFFECTS}[typed])


@pytest.mark.parametrize(
  ('typed', 'expected'),
  [
    (
      ['objective.times.low=0.9', 'objective.times.high=0.1'],
      'config.objective.times.high = 0.1 must lie in (0.9, 1]',
    ),
    (
      ['objective.times=logit_normal', 'objective.times.std=0'],
      'config.objective.times.std = 0.0 must be above 0',
    ),
    (
      ['objective.weight=snr', 'objective.weight.offset=-1'],
      'config.objective.weight.offset = -1.0 must be at least 0',
    ),
    (
      ['dataset.size=1', 'dataset.split=validation'],
      "config.dataset: the split 'validation' of 1 examples is empty",
    ),
    (
      ['evaluators={}', 'evaluation.every=5'],
      'config.evaluation.every has no effect: there are no evaluators',
    ),
    (
      ['checkpoint.best=student/euler_1/energy_distance'],
      'config.checkpoint.best has no effect: no evaluator runs while',
    ),
    (
      ['evaluators={}', 'evaluation.features=digits'],
      'config.evaluation.features has no effect: there are no evaluators',
    ),
    (
      ['evaluation.reference=real.npz'],
      'config.evaluation.reference has no effect: there is no '
      'evaluation.features',
    ),
    (
      ['ema={}', 'ema.mian.half_life=3'],
      "config.ema = ['mian'] must contain 'main'",
    ),
    (
      ['init_from=a', 'resume=b'],
      'config.init_from has no effect: resume restores a whole state',
    ),
  ],
)
def test_values_that_are_wrong_together(run, points, typed, expected):
  overrides = [f'--config.{text}' for text in typed]
  assert run(points, '--workdir=W', *overrides).startswith(expected)


SWEEPS = {
  "{'student': [['eulr', 4]]}": (
    ".student has ['eulr', 4]: sampler = 'eulr' does not exist; did you mean"
  ),
  "{'student': [['euler', 1], ['heun', 30]]}": (
    ".student has ['heun', 30]: nfe = 30 is not possible for heun; the nearest "
    'are 29 and 31'
  ),
  "{'student': [['euler', 0]]}": "['student'] has ['euler', 0]; it must be",
  "{'student': 'euler'}": "['student'] = 'euler' must be a list",
  "{'teacher': [['euler', 4]]}": (
    " has the role 'teacher'; it must be one of ['student']"
  ),
  '{}': ' = {} must have entries, like',
}


@pytest.mark.parametrize('typed', SWEEPS)
def test_a_sweep_that_cannot_be_drawn(run, points, typed):
  key = 'config.evaluators.energy.sweep'
  message = run(points, '--workdir=W', f'--{key}={typed}')
  assert message.startswith(f'{key}{SWEEPS[typed]}')


@pytest.mark.parametrize(
  ('typed', 'expected'),
  [
    ('network.patch=3', 'config.network.patch = 3 does not divide 8 x 8'),
    ('network.heads=3', 'config.network.heads = 3 does not divide width = 8'),
    ('network.heads=0', 'config.network.heads = 0 must be at least 1'),
    ('network.mlp_ratio=0', 'config.network.mlp_ratio = 0.0 makes no layer'),
    ('network=mlp', 'config.network: an MLP takes points [d], not [8, 8, 1]'),
    ('dataset=moons', 'config.network: a DiT takes images [h, w, c], not [2]'),
    (
      'evaluation.features=none',
      'config.evaluators.few_step: few_step needs a feature network: '
      'set evaluation.features',
    ),
  ],
)
def test_a_network_or_an_evaluator_that_does_not_fit_images(
  run, images, typed, expected
):
  message = run(images, '--workdir=W', f'--config.{typed}')
  assert message.startswith(expected)


STAGE = {
  'stages.dist.train.steps=5': (
    "--config.stages.dist.train.steps=5: stage 'dist' does not exist; "
    "did you mean 'distil'"
  ),
  'stages.distil=5': (
    '--config.stages.distil=5 must set a key of a stage, as in '
    '--config.stages.distil.train.steps=100'
  ),
  'stages.distil.objective.warmup=5': (
    '--config.stages.distil.objective.warmup=5: config.stages.distil.objective '
    "has no key 'warmup'; did you mean 'warmup_steps'?"
  ),
  'objective.maxr=1': (
    '--config.objective.maxr=1: config.objective has no key '
    "'maxr'; did you mean 'max_r'?"
  ),
  'objective.name=ayf_lmd': (
    '--config.objective.name=ayf_lmd must name a stage, as they differ '
    "({'flow': 'rectified_flow', 'distil': 'ayf_emd'}): for example "
    '--config.stages.distil.objective.name=ayf_lmd'
  ),
  'objective=ayf_lmd': (
    '--config.objective=ayf_lmd must name a stage, as they differ '
    "({'flow': 'rectified_flow', 'distil': 'ayf_emd'}): for example "
    '--config.stages.distil.objective=ayf_lmd'
  ),
  'train.steps=ten': "config.stages.flow.train.steps = 'ten' (str)",
  'stages.distil.train.drop_cond=2': (
    'config.stages.distil.train.drop_cond = 2.0 must lie in [0, 1]'
  ),
  'stages.distil.objective.times=uniform': (
    "config.stages.distil.objective.times = 'uniform' does not exist; "
    "did you mean 'sorted_uniform'?"
  ),
  'objective.max_r=1.5': (
    'config.stages.distil.objective.max_r = 1.5 must lie in [0, 1]'
  ),
  'objective.c=-1': (
    'config.stages.distil.objective.c = -1.0 must be at least 0'
  ),
  'objective.warmup_steps=-1': (
    'config.stages.distil.objective.warmup_steps = -1 must be at least 0'
  ),
  'stages.distil.objective.times.std=0': (
    'config.stages.distil.objective.times.std = 0.0 must be above 0'
  ),
  'stages.distil.frozen.teacher=stage:flw': (
    "config.stages.distil.frozen.teacher = 'stage:flw' must be an earlier "
    'stage that trains; '
    "did you mean 'stage:flow'?"
  ),
  'stages.distil.frozen.teacher=flow': (
    "config.stages.distil.frozen.teacher = 'flow' must be an earlier "
    'stage that trains; '
    "did you mean 'stage:flow'?"
  ),
  'stages.distil.frozen.teacher=stage:distil': (
    "config.stages.distil.frozen.teacher = 'stage:distil' must be an earlier "
    'stage that trains;'
  ),
  'stages.flow.init_from=stage:distil': (
    "config.stages.flow.init_from = 'stage:distil' must be an earlier "
    'stage that trains; '
    'there are none'
  ),
  'stages.distil.frozen.teacher.weights=mian': (
    "config.stages.distil.frozen.teacher: stage:flow has no weights 'mian'; "
    "did you mean 'main'?"
  ),
  'stages.distil.frozen={}': (
    'config.stages.distil.objective: this objective asks for nets.teacher, and '
    "the config fills only ['ema', 'student']: set 'frozen.teacher'"
  ),
  'stages.distil.frozen.weak=stage:flow': (
    'config.stages.distil.frozen.weak has no effect: the objective calls only '
    "['student', 'teacher']"
  ),
  'stages.distil.network.width=16': (
    'config.stages.distil.init_from: these weights do not fit. The first array '
    'that differs is first.bias: [8] there, and [16] in this stage'
  ),
  'stages.distil.evaluators.energy.sweep.techer=[]': (
    '--config.stages.distil.evaluators.energy.sweep.techer=[]: '
    'config.stages.distil.evaluators.energy.sweep has no key '
    "'techer'; did you mean 'teacher'?"
  ),
}


@pytest.mark.parametrize('typed', STAGE)
def test_what_is_wrong_in_a_stage(run, stages, typed):
  message = run(stages, '--workdir=W', f'--config.{typed}')
  assert message.startswith(STAGE[typed])


def test_a_teacher_of_other_data(run, stages):
  other = ['dataset=digits', 'network=dit', 'network.depth=1']
  typed = [f'--config.stages.distil.{text}' for text in other]
  message = run(
    stages, '--workdir=W', *typed, '--config.stages.distil.init_from=none'
  )
  assert message == (
    "config.stages.distil.frozen.teacher = 'stage:flow' knows examples [2], "
    'and this data set has examples [8, 8, 1] with 10 classes'
  )


# A line of Python in a config file of one stage, and of several.
IN_FILE = {
  "raw['trian'] = {}": (
    "config.trian = {}: a stage takes no 'trian'; did you mean 'train'?"
  ),
  "raw['train']['stpes'] = 5": (
    "config.train.stpes = 5: config.train takes no 'stpes'; "
    "did you mean 'steps'?"
  ),
  "raw['network']['wdith'] = 5": (
    "config.network.wdith = 5: mlp takes no 'wdith'; did you mean 'width'?"
  ),
  "raw['network'] = 'mpl'": (
    "config.network = 'mpl' does not exist; did you mean 'mlp'?"
  ),
  "raw['network'] = {'width': 8}": "config.network must have a 'name'; the cho",
  "raw['objective'] = {'name': 'ayf_emd', 'warmup': 3}": (
    "config.objective.warmup = 3: ayf_emd takes no 'warmup'; "
    "did you mean 'warmup_steps'?"
  ),
  "del raw['objective']": 'config.objective is missing; the choices are',
  "del raw['train']": 'config.train is missing; the choices are',
  "raw['train']['epochs'] = 2": (
    'config.train: a length must have exactly one of steps, images, epochs, '
    'got '
    "{'steps': 10, 'epochs': 2.0}"
  ),
  "raw['train']['batch_size'] = '8'": (
    "config.train.batch_size = '8' (str) must be int"
  ),
  "raw['train'] = [5]": 'config.train = [5] (list) must be a dict',
  "raw['train']['batch_size'] = True": (
    'config.train.batch_size = True (bool) must be int'
  ),
  "raw['network']['dropout'] = 1.5": (
    'config.network.dropout = 1.5 must lie in [0, 1)'
  ),
  "raw['frozen'] = {'teacher': 5}": (
    "config.frozen.teacher: 5 must be 'stage:NAME'"
  ),
  "raw['stages'] = {}": 'config.stages = {} must have at least one stage',
}
IN_FILE_OF_STAGES = {
  "raw['stages']['flow']['trian'] = 5": (
    "config.stages.flow.trian = 5: config.stages.flow takes no 'trian'; "
    "did you mean 'train'?"
  ),
  "raw['stages']['distil']['frozen'] = {'teacher': 'stage:flw'}": (
    "config.stages.distil.frozen.teacher = 'stage:flw' must be an earlier "
    'stage that trains; '
    "did you mean 'stage:flow'?"
  ),
  "raw['stages']['flow']['init_from'] = 'stage:distil'": (
    "config.stages: the references of ['flow', 'distil'] must not form a cycle"
  ),
  "raw['stages']['flow']['init_from'] = 'stage:flow'": (
    "config.stages: the references of ['flow', 'distil'] must not form a cycle"
  ),
  "raw['objective'] = 'ayf_lmd'": (
    "config.objective has no effect: every stage has its own 'objective'"
  ),
  "raw['stages']['flow']['frozen'] = {'teacher': 'other'}": (
    'config.stages.flow.frozen.teacher: other must be the folder of a run'
  ),
  "raw['stages']['samples'] = raw['stages'].pop('distil')": (
    "config.stages has 'samples': the name of a stage must consist of"
  ),
  "raw['stages']['a b'] = raw['stages'].pop('distil')": (
    "config.stages has 'a b': the name of a stage must consist of"
  ),
  "raw['stages']['flow'] = 5": ('config.stages.flow = 5 (int) must be a dict'),
}


@pytest.mark.parametrize('line', IN_FILE)
def test_what_is_wrong_in_a_file(run, configs, line):
  path = configs(POINTS, line)
  assert run(f'--config={path}', '--workdir=W').startswith(IN_FILE[line])


@pytest.mark.parametrize('line', IN_FILE_OF_STAGES)
def test_what_is_wrong_in_a_file_of_stages(run, configs, line):
  path = configs(STAGES, line)
  message = run(f'--config={path}', '--workdir=W')
  assert message.startswith(IN_FILE_OF_STAGES[line])


@pytest.mark.parametrize(
  ('line', 'expected'),
  [
    ("raw['trian']['steps'] = 5", "line 8: KeyError: 'trian'"),
    ('ConfigDict(raw).trian.steps = 5', 'line 8: AttributeError: '),
    ('raw = = 5', 'line 8: SyntaxError: invalid syntax'),
    ('import flowdistil', 'line 8: ModuleNotFoundError: '),
    ('return None', 'get_config returned None; it must return a ConfigDict'),
  ],
)
def test_python_that_is_wrong_in_a_file(run, configs, line, expected):
  path = configs(POINTS, line)
  message = run(f'--config={path}', '--workdir=W')
  assert message.removeprefix(f'{path}')[2:].startswith(expected)


def test_a_file_without_get_config(run, tmp_path):
  path = tmp_path / 'experiment.py'
  path.write_text('config = 5\n')
  message = run(f'--config={path}', '--workdir=W')
  assert message.startswith(f'{path}: AttributeError: ')
  assert 'get_config' in message


@pytest.mark.parametrize('scheme', ['https', 'http', 'file', 'gs', 'FTP'])
def test_a_config_from_an_address_is_refused(run, scheme):
  address = f'{scheme}://example.org/quickstart.py'
  message = run(f'--config={address}', '--workdir=W')
  assert message.startswith(
    f'--config={address} must be a local file: a config is code'
  )


def test_a_file_that_does_not_exist(run, configs, monkeypatch):
  path = configs(POINTS, name='points.py')
  for typed in (path.with_name('ponits.py'), path.with_name('points')):
    message = run(f'--config={typed}', '--workdir=W')
    expected = f'there is no file {typed}; did you mean {str(path)!r}?'
    assert reads_as(message, f'--config={typed}: {expected}')
  monkeypatch.chdir(ROOT)
  message = run('--config=quickstart.py', '--workdir=W')
  assert reads_as(
    message,
    '--config=quickstart.py: there is no file quickstart.py; '
    "did you mean 'configs/quickstart.py'?",
  )


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('lrage', "config argument 'lrage': did you mean 'large'?"),
    ('runlocl', "config argument 'runlocl': did you mean 'runlocal'?"),
    ('large,tiny', "config argument 'large,tiny': did you mean 'large'?"),
  ],
)
def test_an_argument_that_the_config_does_not_take(
  run, points, argument, expected
):
  assert reads_as(run(f'{points}:{argument}', '--workdir=W'), expected)


def test_arguments_that_it_takes(run, points):
  for argument in ('', ':', ':large', ':runlocal', ':large,runlocal'):
    made, _ = run(f'{points}{argument}', '--workdir=W')
    assert made['run']['train']['steps'] == (2 if 'local' in argument else 10)


COMMANDS = {
  'CONFIG': '--workdir is missing: the folder of the run',
  '--job=plan': '--workdir is missing: the folder of the run',
  '--workdir=W': '--config is missing: FILE.py or FILE.py:arg,arg',
  '--config --workdir=W': '--config must have a value: --config=VALUE',
  'CONFIG --workdir': '--workdir must have a value: --workdir=VALUE',
  'CONFIG --wrokdir=W': (
    "--wrokdir: --job=train has no such option; did you mean 'workdir'?"
  ),
  'CONFIG --workdir=W --profile=-1': '--profile=-1 must be at least 0',
  'CONFIG --workdir=W --hlep': '--hlep: --job=train has no such option;',
  'CONFIG --workdir=W --job=trian': (
    "--job=trian does not exist; did you mean 'train'?"
  ),
  'CONFIG --workdir=W train': "'train' belongs to no option",
  'CONFIG --workdir=W -- x': "'--' belongs to no option",
  'CONFIG --workdir=W --train.steps=5': (
    '--train.steps: a key of the config must be set by --config.train.steps=VAL'
  ),
  'CONFIG --workdir=W --samples=5': (
    '--samples: it is an option of --job=evaluate and --job=generate, not of '
    '--job=train'
  ),
  'CONFIG --workdir=W --job=evaluate --samples=5': (
    '--samples has no effect without --metrics or --features or --of'
  ),
  'CONFIG --workdir=W --job=evaluate --against=x': (
    '--against has no effect without --of'
  ),
  'CONFIG --workdir=W --job=evaluate --of=x': (
    '--config has no effect with --of'
  ),
  '--job=evaluate --of=x --distributed': (
    '--distributed has no effect with --of'
  ),
  '--job=evaluate --of=x': "--of needs --features, such as 'name=inception",
  '--job=evaluate --of=x --features=digits': (
    '--of needs --against: images or statistics to compare with'
  ),
  '--job=evaluate --of=nowhere --against=x --features=digits': (
    '--of=nowhere: '
  ),
  'CONFIG --workdir=W --distributed=maybe': (
    '--distributed=maybe must be true or false'
  ),
  'CONFIG --workdir=W --num_processes=x': (
    '--num_processes=x must be an integer'
  ),
  'CONFIG --workdir=W --process_id=0': (
    '--process_id=0 has no effect without --distributed'
  ),
  'CONFIG --workdir=W --distributed --num_processes=0': (
    '--num_processes=0 must be at least 1'
  ),
  'CONFIG --workdir=W --distributed --num_processes=2 --process_id=2': (
    '--process_id=2 must be at least 0 and below --num_processes=2'
  ),
  'CONFIG --workdir=/dev/null': (
    '--workdir=/dev/null: /dev/null must be a folder, and is none'
  ),
  'CONFIG --workdir=/dev/null/run': (
    '--workdir=/dev/null/run: /dev/null must be a folder, and is none'
  ),
  '--workdir=W --job=evaluate': 'W must be the folder of a run: there ',
  '--workdir=W --job=generate --config.seed=5': (
    '--config.seed=5 has no effect without --config'
  ),
}
GENERATE = {
  '--sampels=5': (
    "--sampels: --job=generate has no such option; did you mean 'samples'?"
  ),
  '--samples': '--samples must have a value: --samples=VALUE',
  '--samples=five': '--samples=five must be int',
  '--samples=0': '--samples=0 must be an integer of at least 1',
  '--samples=2.5': '--samples=2.5 must be int',
  '--samples=٣': '--samples=٣ must be int',
  '--samples=1e400': '--samples=1e400 must be int',
  f'--samples={10**12}': f'--samples={10**12} must be at most 4294967296',
  '--seed=-1': '--seed=-1 must be an integer in [0, 2**32)',
  '--seed=4294967296': '--seed=4294967296 must be an integer in [0, 2**32)',
  f'--seed={10**23}': f'--seed={10**23} must be an integer in [0, 2**32)',
  f'--seed={"9" * 5000}': '--seed=9',
  '--nfe=1000000000': (
    '--sampler=flow_map --nfe=1000000000: nfe = 1000000000 must be at most 1000'
  ),
  '--stage=distl': "--stage=distl does not exist; did you mean 'distil'?",
  '--model=techer': "--model=techer does not exist; did you mean 'teacher'?",
  '--weights=mian': "--weights=mian does not exist; did you mean 'main'?",
  '--sampler=eulr': (
    "--sampler=eulr --nfe=4: sampler = 'eulr' does not exist; "
    "did you mean 'euler'?"
  ),
  '--nfe=0': '--sampler=flow_map --nfe=0: nfe = 0 is not possible for ',
  '--label=3': '--label=3 has no effect: this data set has no classes',
  '--prompts=fire': '--prompts: prompts have no effect: these examples are [2]',
  '--prompts=no.txt': "--prompts='no.txt': the file cannot be read: ",
  '--prompts= ': "--prompts=' ': it has no prompt: give one per line",
  '--samples=-2': '--samples=-2 must be an integer of at least 1',
}


@pytest.mark.parametrize('typed', COMMANDS)
def test_a_command_that_is_wrong(run, points, tmp_path, typed):
  words = [points if word == 'CONFIG' else word for word in typed.split()]
  workdir = str(tmp_path / 'workdir')
  message = run(*words).replace(workdir, 'W')
  assert message.startswith(COMMANDS[typed])


PLAN = {
  '--kind=h1000': "--kind=h1000 does not exist; did you mean 'h100'?",
  '--knd=h100': "--knd: --job=plan has no such option; did you mean 'kind'?",
  '--devices=0': '--devices=0 must be at least 1, or -1 for those of ',
  '--devices=-2': '--devices=-2 must be at least 1, or -1 for those of ',
  '--devices=many': '--devices=many must be int',
  '--utilisation=0': '--utilisation=0.0 must be above 0 and at most 1',
  '--utilisation=1.5': '--utilisation=1.5 must be above 0 and at most 1',
  '--utilisation=nan': '--utilisation=nan must be above 0 and at most 1',
  '--price=-1': '--price=-1.0 must be at least 0',
  '--price=inf': '--price=inf must be at least 0',
  '--json': '--json must have a value: --json=VALUE',
  '--stage=distl': "--stage=distl does not exist; did you mean 'distil'?",
}


@pytest.mark.parametrize('typed', PLAN)
def test_an_option_of_plan_that_is_wrong(run, stages, typed):
  message = run(stages, '--workdir=W', '--job=plan', typed)
  assert message.startswith(PLAN[typed])


@pytest.mark.parametrize('typed', GENERATE)
def test_an_option_of_a_job_that_is_wrong(run, stages, typed):
  message = run(stages, '--workdir=W', '--job=generate', typed)
  assert message.startswith(GENERATE[typed])


@pytest.mark.parametrize('label', ['-7', '-2', '99', f'{10**23}'])
def test_a_label_that_no_class_has(run, images, label):
  message = run(images, '--workdir=W', '--job=generate', f'--label={label}')
  assert message.startswith(f'--label={label} must be an integer in 0 to 9, or')


@pytest.mark.parametrize('label', ['2.7', 'nan', 'cat', '', '٣', '[1]', 'none'])
def test_a_label_that_is_no_number(run, images, label):
  message = run(images, '--workdir=W', '--job=generate', f'--label={label}')
  assert message == f'--label={label} must be int'


def test_a_label_that_does_not_exist(run, images):
  message = run(images, '--workdir=W', '--job=generate', '--label=11')
  assert (
    message == '--label=11 must be an integer in 0 to 9, or 10 for "no class"'
  )


def test_a_sampler_that_would_not_be_used(run, stages):
  typed = [stages, '--workdir=W', '--job=evaluate', '--sampler=heun']
  message = run(*typed)
  assert message.startswith('--sampler=heun --nfe=4 has no effect without')
  message = run(*typed, '--model=teacher')
  assert message.startswith('--sampler=heun --nfe=4: nfe = 4 is not')
  _, options = run(*typed, '--model=teacher', '--nfe=5')
  assert (options.sampler, options.nfe) == (('heun',), (5,))


def test_a_folder_that_is_no_run_of_ours(run, stages, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'unet'}))
  key = 'config.stages.flow.init_from'
  message = run(stages, '--workdir=W', f'--{key}={tmp_path}')
  assert message.startswith(
    f'{key}: {tmp_path / "config.json"} was not written'
  )


def test_a_folder_without_a_checkpoint(run, stages, points, tmp_path):
  made, _ = run(points, '--workdir=W')
  (tmp_path / 'config.json').write_text(json.dumps({'config': made['run']}))
  key = 'config.stages.flow.init_from'
  message = run(stages, '--workdir=W', f'--{key}={tmp_path}')
  assert message == f'{key}: {tmp_path} has no complete checkpoint'


def test_no_device_is_touched_before_a_config_is_right(stages, tmp_path):
  """The evaluators of the last stage are what is checked last."""
  key = 'config.stages.distil.evaluators.pictures.sweep'
  command = [sys.executable, '-m', 'flowdistill.main', stages]
  command += [
    f'--workdir={tmp_path / "W"}',
    f"--{key}={{'student': [['rk4', 2]]}}",
  ]
  done = subprocess.run(
    command,
    cwd=ROOT,
    capture_output=True,
    text=True,
    # Any use of a device raises on a platform that does not exist.
    env={**os.environ, 'JAX_PLATFORMS': 'nowhere'},
  )
  assert done.stderr == (
    f"error: {key}.student has ['rk4', 2]: nfe = 2 is not possible for rk4; "
    'the nearest is 4\n'
  )
  assert done.returncode == 2
  assert done.stdout == ''
  assert not (tmp_path / 'W').exists()


# What is typed after --job=generate, on stages of points.
SAMPLING = {
  '--nfe=many': '--nfe=many must be int, or none for an adaptive sampler',
  '--nfe=none': (
    '--sampler=flow_map --nfe=none: nfe = None must be an integer for '
    "'flow_map'"
  ),
  '--sampler=rk45': ("--sampler=rk45 --nfe=4: nfe = 4 must be None for 'rk45'"),
  '--grid=shfted': (
    "--sampler=flow_map --nfe=4 --grid=shfted: grid = 'shfted' does not exist; "
    "did you mean 'shifted'?"
  ),
  '--grid=name=shifted, shift=0': (
    '--sampler=flow_map --nfe=4 --grid=name=shifted, shift=0: shift = 0 must '
    'be above 0'
  ),
  '--grid=name=shifted, shft=2': (
    '--sampler=flow_map --nfe=4 --grid=name=shifted, shft=2: shifted takes no '
    "'shft'; did you mean 'shift'?"
  ),
  '--guidance=strong': (
    "--guidance=strong must be a number, or like 'scale=2, low=0.2, high=0.8'"
  ),
  '--guidance=nan': (
    '--sampler=flow_map --nfe=4 --guidance=nan: guidance = nan '
  ),
  '--guidance=1.5': (
    '--sampler=flow_map --nfe=4 --guidance=1.5: guidance = 1.5 must be '
    'removed: this data set has no conditions'
  ),
  '--options=gamma': (
    "--options=gamma must be like 'gamma=0.3', with commas between several"
  ),
  '--options=gamma=1, gamma=0': ('--options=gamma=1, gamma=0 must be like '),
  '--options=gamma=0.3': (
    '--sampler=flow_map --nfe=4 --options=gamma=0.3: flow_map takes no '
    "'gamma'; there are none"
  ),
  '--options=nfe=3': "--options has 'nfe': set it by --nfe",
  '--options=guidance=3': "--options has 'guidance': set it by --guid",
}
PRESET = {
  '--preset=3': ': there is none; --job=evaluate --tune=nfe,gamma chooses them',
  '--preset=3 --nfe=2': '--preset=3 must be without --sampler, --nfe, ',
  '--preset=-3': '--preset=-3 must be at least 1',
}
TUNE = {
  '--tune=gama': "--tune=gama is no knob; did you mean 'gamma'?",
  '--tune=gamma --sampler=euler': '--tune=gamma must be with --sampler=gamma, ',
  '--tune=nfe --steps=all': '--tune=nfe must be of one step and one --weights',
  '--tune=nfe --weights=ema,params': '--tune=nfe must be of one step and one ',
  '--tune=gamma --nfe=none': '--tune=gamma must have numbers in --nfe: ',
  '--tune=nfe --metrics=precision_recall': (
    "--tune=nfe must have the metric 'frechet' in --metrics"
  ),
  '--tune=nfe --model=weak': '--model=weak does not exist; ',
  '--tune=guidance --sampler=heun': '--tune=guidance: nfe = 4 ',
}
GAMMA = {
  '--options=gama=0.3': "gamma takes no 'gama'; did you mean 'gamma'?",
  '--options=gamma=2': 'gamma = 2 must lie in [0, 1]',
  '--options=gamma=a': "gamma = 'a' (str) must be float",
}


@pytest.mark.parametrize('typed', SAMPLING)
def test_a_way_to_draw_that_does_not_exist(run, stages, typed):
  message = run(stages, '--workdir=W', '--job=generate', typed)
  assert message.startswith(SAMPLING[typed])


@pytest.mark.parametrize('typed', PRESET)
def test_a_preset_that_cannot_be(run, stages, typed):
  message = run(stages, '--workdir=W', '--job=generate', *typed.split())
  assert PRESET[typed] in message


@pytest.mark.parametrize('typed', TUNE)
def test_what_cannot_be_tuned(run, stages, typed):
  message = run(stages, '--workdir=W', '--job=evaluate', *typed.split())
  assert message.startswith(TUNE[typed])


@pytest.mark.parametrize('typed', GAMMA)
def test_an_option_of_a_sampler_that_is_wrong(run, stages, typed):
  command = [stages, '--workdir=W', '--job=generate', '--sampler=gamma', typed]
  message = run(*command)
  assert message.startswith(f'--sampler=gamma --nfe=4 {typed}: {GAMMA[typed]}')


def only(options):
  """The one way to draw, also of a job that takes several."""
  if isinstance(options, Samplings):
    (options,) = combinations(options)
  return options


def test_every_combination_is_drawn(run, images):
  typed = [images, '--workdir=W', '--job=evaluate', '--model=student']
  typed += ['--sampler=euler,rk45', '--nfe=2,4,none', '--guidance=none,1.5']
  typed += ['--grid=uniform; name=shifted, shift=2']
  _, options = run(*typed)
  assert options.model == ('student',)
  ways = combinations(options)
  shifted = {'name': 'shifted', 'shift': 2}
  assert [(each.sampler, each.nfe) for each in ways] == [
    *[('euler', 2), ('euler', 4)] * 4,
    *[('rk45', None)] * 4,
  ]
  assert [(w.guidance, w.grid) for w in ways[:8:2]] == [
    *[(None, 'uniform'), (None, shifted), (1.5, 'uniform'), (1.5, shifted)]
  ]


LISTS = {
  '--nfe=2,2': '--nfe must not have 2 twice',
  '--nfe=2,,4': "--nfe=2,,4 must be integers with commas, like '1,2,4', or",
  '--nfe=2;x': "--nfe=2;x must be integers with commas, like '1,2,4', or",
  '--model=student,studnt': '--model=studnt does not exist; did you mean',
  '--weights=ema,eam': '--weights=eam does not exist; did you mean',
  '--options=gamma=0; gamma=2': '--sampler=flow_map --nfe=4 --options=gamma=0',
  '--nfe=4,none': '--model=x does not exist',
  '--sampler=euler,rk45': '--sampler=rk45 --nfe=4: nfe = 4 must be None for',
  '--guidance=1.5,a': '--guidance=1.5,a must be numbers with commas, or like ',
  '--grid=uniform,shfted': (
    "--sampler=flow_map --nfe=4 --grid=shfted: grid = 'shfted' does not exist"
  ),
}


@pytest.mark.parametrize('typed', LISTS)
def test_a_list_of_ways_to_draw_that_is_wrong(run, images, typed):
  role = 'x' if 'model=x' in LISTS[typed] else 'student'
  models = [] if typed.startswith('--model') else [f'--model={role}']
  message = run(images, '--workdir=W', '--job=evaluate', *models, typed)
  assert message.startswith(LISTS[typed])


@pytest.mark.parametrize('job', ['generate', 'evaluate'])
def test_ways_to_draw(run, images, job):
  typed = [images, '--workdir=W', f'--job={job}', '--model=student']
  typed += ['--sampler=gamma', '--nfe=6', '--options=gamma=0.3']
  typed += ['--grid=name=shifted, shift=2', '--guidance=1.5']
  options = only(run(*typed)[1])
  assert (options.sampler, options.nfe) == ('gamma', 6)
  assert options.how() == {
    'gamma': 0.3,
    'grid': {'name': 'shifted', 'shift': 2},
    'guidance': 1.5,
  }
  interval = '--guidance=scale=2, low=0.2, high=0.8'
  options = only(run(*typed[:4], '--sampler=rk45', '--nfe=none', interval)[1])
  assert (options.nfe, options.grid) == (None, None)
  assert options.guidance == {'scale': 2, 'low': 0.2, 'high': 0.8}
  message = run(*typed[:6], '--nfe=3', '--guidance=2')
  assert message.startswith(
    '--sampler=gamma --nfe=3 --guidance=2.0: nfe = 3 is not possible for '
    'gamma; the nearest are 2 and 4'
  )


@pytest.mark.parametrize('typed', ['--grid=shifted', '--guidance=2', '--nfe=1'])
def test_a_way_to_draw_that_would_not_be_used(run, images, typed):
  message = run(images, '--workdir=W', '--job=evaluate', typed)
  assert 'has no effect without --model, such as --model=student' in message


ENTRIES = {
  "['rk45', 3]": "nfe = 3 must be None for 'rk45'",
  "['gamma', 2, {'gamma': 2}]": 'gamma = 2 must lie in [0, 1]',
  "['gamma', 2, {'gama': 0.5}]": "gamma takes no 'gama'; did you mean 'gamma'?",
  "['euler', 2, {'backwards': True}]": "euler takes no 'backwards'",
  "['euler', 2, {'grid': 'shfted'}]": (
    "grid = 'shfted' does not exist; did you mean 'shifted'?"
  ),
  "['euler', 1, {'guidance': 2}]": (
    'nfe = 1 is not possible for euler; the nearest is 2'
  ),
  "['euler', 2, {'guidance': {'low': 0.5}}]": "guidance = {'low': 0.5} must be",
}


@pytest.mark.parametrize('entry', ENTRIES)
@pytest.mark.parametrize('option', ['sweep', 'reference'])
def test_an_entry_of_a_sweep_with_options(run, configs, images, option, entry):
  key = f'config.evaluators.any.{option}'
  path = configs(
    IMAGES,
    f"""
    raw['evaluators']['any'] = {{
      'name': 'teacher_distance',
      'sweep': {{'student': [['euler', 1]]}},
      'reference': {{'student': [['euler', 1]]}},
    }}
    raw['evaluators']['any']['{option}'] = {{'student': [{entry}]}}
    """,
  )
  message = run(f'--config={path}', '--workdir=W')
  assert message.startswith(f'{key}.student has {entry}: {ENTRIES[entry]}')


def test_a_network_that_is_told_its_guidance_asks_once(run, configs):
  """Points have no classes; the teacher here cannot be guided, the student is.

  An odd NFE shows that the student is not asked twice.
  """
  change = """
  distil = raw['stages']['distil']
  distil['network'] = {**raw['network'], 'scalars': ('guidance',)}
  distil['init_from'] = None
  distil['frozen']['weak'] = 'stage:flow'
  distil['objective'] = {'name': 'ayf_emd', 'guidance': 'uniform'}
  sweep = {'student': [['euler', 1, {'guidance': 2}]]}
  distil['evaluators'] = {'energy': {'name': 'energy', 'sweep': sweep}}
  """
  path = configs(STAGES, change, name='told.py')
  generate = [f'--config={path}', '--workdir=W', '--job=generate', '--nfe=3']
  _, options = run(*generate, '--guidance=3')
  assert (options.nfe, options.how()) == (3, {'guidance': 3.0})
  message = run(*generate, '--guidance=scale=2, low=2')
  assert 'must have 0 <= low <= high <= 1' in message
  message = run(*generate, '--guidance=3', '--model=teacher')
  assert message.endswith('must be removed: this data set has no conditions')


DIAGNOSTICS = {
  'boundary': "teacher = 'teacher' must be one of ['student']",
  'teacher_distance': (
    "reference has the role 'teacher'; it must be one of ['student']"
  ),
  'semigroup.role=ema': "role = 'ema' must be one of ['student']",
  'straightness.steps=0': 'steps = 0 must be at least 1',
}


@pytest.mark.parametrize('typed', DIAGNOSTICS)
def test_a_diagnostic_that_cannot_be_made(run, points, typed):
  name, _, option = typed.partition('.')
  overrides = [f'--config.evaluators.energy.name={name}']
  overrides += [f'--config.evaluators.energy.{option}'] * bool(option)
  message = run(points, '--workdir=W', *overrides)
  assert message == f'config.evaluators.energy.{DIAGNOSTICS[typed]}'


def test_an_option_of_compare(run, stages):
  message = run(stages, '--workdir=W', '--job=compare', '--metrc=energy')
  assert reads_as(
    message,
    "--metrc: --job=compare has no such option; did you mean 'metric'?",
  )
