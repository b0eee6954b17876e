"""A key or a value that is mistyped after a config; see mistyped.py."""

import pytest
from mistyped import reads_as

from flowdistill.jobs import JOBS

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


def test_the_configs_are_right_as_they_are(type_in, points, images, stages):
  for config in (points, images, stages):
    made, options = type_in(config, '--workdir=W')
    assert options == JOBS['train'].Options()
    assert all(spec['train']['steps'] == 10 for spec in made.values())


@pytest.mark.parametrize('typed', KEYS)
def test_a_key_that_does_not_exist(type_in, points, typed):
  assert reads_as(type_in(points, '--workdir=W', typed), KEYS[typed])


@pytest.mark.parametrize('typed', NAMES)
def test_a_name_that_does_not_exist(type_in, points, typed):
  key, _, _ = typed.removeprefix('--').partition('=')
  assert reads_as(
    type_in(points, '--workdir=W', typed), f'{key} = {NAMES[typed]}'
  )


@pytest.mark.parametrize('typed', TYPES)
def test_a_value_of_another_type(type_in, points, typed):
  key, _, _ = typed.removeprefix('--').partition('=')
  message = type_in(points, '--workdir=W', typed)
  assert message.startswith(f'{key} = {TYPES[typed]}')


@pytest.mark.parametrize('typed', RANGES)
def test_a_value_out_of_range(type_in, points, typed):
  section = typed.partition('=')[0].removesuffix('.epochs').rpartition('.')[0]
  message = type_in(points, '--workdir=W', f'--config.{typed}')
  key = '.'.join(filter(None, ('config', section)))
  assert message.startswith(f'{key}.{RANGES[typed]}')


@pytest.mark.parametrize('typed', [*LENGTHS, *EFFECTS])
def test_a_length_or_a_source_that_cannot_be(type_in, points, typed):
  message = type_in(points, '--workdir=W', typed)
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
def test_values_that_are_wrong_together(type_in, points, typed, expected):
  overrides = [f'--config.{text}' for text in typed]
  assert type_in(points, '--workdir=W', *overrides).startswith(expected)
