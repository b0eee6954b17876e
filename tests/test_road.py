"""What configs share, and the arguments of those that take any."""

import pathlib

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.stages.kinds import load_stages

FOLDER = pathlib.Path(__file__).parents[1] / 'configs' / 'slimflow'


def stages(name, arg):
  return load_stages(f'{FOLDER / name}.py:{arg}')


def test_all_names_the_way_and_what_is_learnt_from_what():
  found = stages('distil', 'cifar10,15m,data_dir=D,lpips=L.npz')
  names = ['flow', 'pairs', 'annealed', 'slim_pairs', 'distil']
  assert list(found) == names
  assert found['pairs']['teacher']['source'] == 'stage:flow'
  assert found['annealed']['pairs'] == 'stage:pairs'
  assert found['annealed']['init_from'] is None
  assert found['slim_pairs']['teacher']['source'] == 'stage:annealed'
  assert found['distil']['objective']['distance'] == ('lpips',)
  assert found['distil']['frozen']['perceptual']['source'] == 'L.npz'
  assert {spec['dataset']['data_dir'] for spec in found.values()} == {'D'}


def test_stages_are_trained_as_in_slimflow():
  """Means, its EMA; what is fine-tuned starts raw and without a warm-up."""
  found = stages('distil', 'cifar10,15m') | stages('reflow', 'cifar10')
  trained = {name: spec for name, spec in found.items() if 'ema' in spec}
  assert set(trained) == {'flow', 'annealed', 'distil', 'reflow'}
  for name, spec in trained.items():
    source = {'reflow': 'stage:flow', 'distil': 'stage:annealed'}.get(name)
    assert spec['objective']['reduction'] == {'name': 'mean'}
    assert spec['ema']['main']['decay'] == 0.999999
    assert spec['ema']['main']['warmup'] == {
      'name': 'hyperbolic',
      'offset': 10.0,
    }
    assert spec['optim']['clip'] == 1.0
    schedule = spec['optim']['schedule']
    assert schedule['learning_rate'] == 2e-4
    assert schedule['warmup'] == {'steps': 0 if source else 5000}
    start = spec['init_from']
    assert (start and (start['source'], start['weights'])) == (
      source and (source, 'params')
    )
  teacher = trained['distil']['frozen']['teacher']
  assert (teacher['source'], teacher['weights']) == ('stage:annealed', 'ema')


def test_what_comes_first_is_the_same_in_all():
  """So that it is reused in one workdir."""
  arg = 'ffhq64,7m,folder=F'
  whole = stages('distil', arg)
  for name in ('flow', 'reflow', 'annealed'):
    for stage, spec in stages(name, arg).items():
      assert stage not in whole or whole[stage] == spec


@pytest.mark.parametrize(
  ('arg', 'name', 'nf', 'ch_mult'),
  [
    ('cifar10', 'ncsnpp', 96, (1, 2, 2)),
    ('cifar10,27m', 'ncsnpp', 128, (1, 2, 2)),
    ('ffhq64,3m', 'ncsnpp', 64, (1, 1, 2)),
    ('imagenet64', 'adm', 128, (1, 2, 2, 2)),
    ('imagenet64,80m', 'adm', 128, (1, 2, 2, 4)),
  ],
)
def test_sizes_are_those_of_the_slim_network(arg, name, nf, ch_mult):
  found = stages('annealed', arg)
  slim, fat = (found[stage]['network'] for stage in ('annealed', 'flow'))
  assert (slim['name'], slim['nf'], slim['ch_mult']) == (name, nf, ch_mult)
  assert fat['name'] == name
  assert fat['ch_mult'] == ((1, 2, 2, 2) if name == 'ncsnpp' else (1, 2, 2, 4))


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('cifar', "'cifar': did you mean 'cifar10'"),
    ('cifar10,imagenet64', 'must name one data set and one size'),
    ('3m,7m', 'must name one data set and one size'),
    ('imagenet64,15m', '15m is not a size for imagenet64'),
    ('flder=x', "'flder': did you mean 'folder=PATH'"),
  ],
)
def test_arguments_that_mean_nothing_raise(arg, message):
  with pytest.raises(ConfigError, match=message):
    stages('flow', arg)


def test_the_guided_student_has_the_teacher_of_the_quickstart():
  """Only the students differ: in guidance, its input, and the evaluation."""
  quickstart, guided = (
    load_stages(f'{FOLDER.parent / name}.py')
    for name in ('quickstart', 'guided_digits')
  )
  assert list(guided) == list(quickstart) == ['flow', 'distil']
  assert guided['flow'] == quickstart['flow']
  differ = {k for k in guided['distil'] if differs(k, guided, quickstart)}
  assert differ == {'network', 'init_from', 'objective', 'optim', 'evaluators'}
  student, other = (
    guided['distil']['objective'],
    quickstart['distil']['objective'],
  )
  assert {k for k in student if student[k] != other[k]} == {'guidance'}


def differs(key, *configs):
  one, other = (config['distil'][key] for config in configs)
  return one != other


def images(arg):
  return load_stages(f'{FOLDER.parent}/images/folder.py:{arg}')


def test_of_pictures_of_your_own():
  (spec,) = images('folder=F,size=32,channels=1,by_class').values()
  wanted = {'path': 'F', 'size': 32, 'channels': 1, 'by_class': True}
  assert {key: spec['dataset'][key] for key in wanted} == wanted


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('folder=F,size=abc', 'size = abc must be a whole number'),
    ('folder=F,channels', 'channels =  must be a whole number'),
    ('foldr=F', "'foldr': did you mean 'folder'"),
  ],
)
def test_arguments_of_pictures_that_mean_nothing_are_refused(arg, message):
  with pytest.raises(ConfigError, match=message):
    images(arg)
