"""The configs of Align Your Flow."""

import pathlib

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.stages.kinds import load_stages

FOLDER = pathlib.Path(__file__).parents[1] / 'configs' / 'ayf'
BOTH = pytest.mark.parametrize('name', ['imagenet64', 'imagenet512'])
UNETS = pytest.mark.parametrize(
  'name', ['imagenet64', 'imagenet512', 'cifar10']
)


def stages(name, arg=''):
  return load_stages(f'{FOLDER / name}.py:{arg}')


@UNETS
def test_from_two_teachers_to_an_adversarial_student(name):
  found = stages(name)
  assert list(found) == ['flow', 'weak', 'align', 'distil', 'adversarial']
  for stage in ('distil', 'adversarial'):
    frozen = found[stage]['frozen']
    assert frozen['teacher']['source'] == 'stage:flow'
    assert frozen['weak']['source'] == 'stage:weak'
  starts = {stage: found[stage]['init_from'] for stage in found}
  assert {n: s and s['source'] for n, s in starts.items()} == {
    'flow': None,
    'weak': None,
    'align': 'stage:flow',
    'distil': 'stage:align',
    'adversarial': 'stage:distil',
  }


@UNETS
def test_published_teachers_take_the_place_of_training(name):
  found = stages(name, 'teacher=runs/s,weak=runs/xs')
  assert list(found) == ['align', 'distil', 'adversarial']
  assert found['align']['init_from']['source'] == 'runs/s'
  for stage in ('distil', 'adversarial'):
    frozen = found[stage]['frozen']
    assert frozen['teacher']['source'] == 'runs/s'
    assert frozen['weak']['source'] == 'runs/xs'


@BOTH
def test_students_embed_t_and_teachers_the_noise_level(name):
  times = {n: s['network']['time'] for n, s in stages(name).items()}
  students = dict.fromkeys(('align', 'distil', 'adversarial'), 'linear')
  assert times == {'flow': 'edm', 'weak': 'edm', **students}
  only = {n: s['optim']['only'] for n, s in stages(name).items()}
  assert only.pop('align') == 'noise.*'
  assert set(only.values()) == {'*'}


@BOTH
def test_hyperparameters(name):
  found = stages(name)
  distil, last = found['distil'], found['adversarial']
  assert distil['train']['batch_size'] == last['train']['batch_size'] == 2048
  adam = distil['optim']['optimiser']
  assert (adam['b1'], adam['b2'], adam['eps']) == (0.9, 0.99, 1e-11)
  assert distil['optim']['schedule']['learning_rate'] == 1e-4
  emd = distil['objective']
  assert (emd['warmup_steps'], emd['c'], emd['against']) == (
    10_000,
    0.1,
    'weak',
  )
  scales = {'name': 'uniform', 'low': 1.0, 'high': 3.0}
  assert emd['guidance'] == last['objective']['fakes']['guidance'] == scales
  critic = last['roles']['discriminator']
  assert last['objective']['alpha'] == 0.1
  assert critic['objective']['r1'] == critic['objective']['r2'] == 0.1
  assert critic['optim']['schedule']['learning_rate'] == 2e-5
  assert last['train']['steps'] == 3000


def test_fid_is_measured_if_its_network_is_given():
  found = stages('imagenet64', 'inception=I.pth,reference=R.npz')
  assert found['distil']['evaluation']['reference'] == 'R.npz'
  quality = found['distil']['evaluators']['quality']
  assert quality['sweep']['student'][0] == ['flow_map', 1, {'guidance': 1.7}]
  assert found['distil']['evaluation']['features']['path'] == 'I.pth'
  assert found['align']['evaluators'] == {}


@pytest.mark.parametrize('word', ['techer=A', 'teacher', 'vae=F'])
def test_an_unknown_word_is_refused(word):
  with pytest.raises(ConfigError, match=f'config argument {word!r}: '):
    stages('imagenet64', word)


def test_a_student_of_sit():
  """From itself or a run, guided by the null label or a weak network."""
  found = stages('imagenet256')
  assert list(found) == ['flow', 'distil']
  for stage in found.values():
    network = stage['network']
    assert (network['size'], network['patch']) == ('XL', 2)
    assert network['variance']
    assert network['time'] == 'sit'
  frozen = found['distil']['frozen']
  assert {n: f['source'] for n, f in frozen.items()} == {
    'teacher': 'stage:flow'
  }
  given = stages('imagenet256', 'teacher=runs/xl,weak=runs/b,inception=i.npz')
  assert list(given) == ['distil']
  distil = given['distil']
  assert distil['objective']['against'] == 'weak'
  sources = {name: each['source'] for name, each in distil['frozen'].items()}
  assert sources == {'teacher': 'runs/xl', 'weak': 'runs/b'}
  assert distil['init_from']['source'] == 'runs/xl'
  assert set(distil['evaluators']) == {'quality'}
  against = [each['distil']['objective']['against'] for each in (found, given)]
  assert against == ['null', 'weak']


@pytest.mark.parametrize('arg', ['', 'teacher=runs/edm'])
def test_on_cifar10_networks_know_augmentation_as_the_published_one(arg):
  """Also `flow`, whose config the published weights are converted with."""
  found = stages('cifar10', arg)
  assert ('flow' in found) == (not arg)
  networks = {name: stage['network'] for name, stage in found.items()}
  assert {each['name'] for each in networks.values()} == {'edm_ncsnpp'}
  assert {each['augment_dim'] for each in networks.values()} == {9}
  assert networks['weak']['nf'] < networks['distil']['nf']
  assert found['align']['optim']['only'] == 'times.*'


@pytest.mark.parametrize('name', ['digits32', 'emoji'])
def test_small_ones_need_no_alignment(name):
  found = stages(name)
  assert list(found) == ['flow', 'weak', 'distil', 'adversarial']
  assert found['weak']['network']['width'] < found['flow']['network']['width']
  assert found['weak']['train']['steps'] < found['flow']['train']['steps']
  assert found['weak']['ema'] != found['flow']['ema']
  for stage in ('distil', 'adversarial'):
    frozen = found[stage]['frozen']
    assert frozen['weak']['source'] == 'stage:weak'
    assert found[stage]['network']['scalars'] == ('guidance',)
  sweep = found['distil']['evaluators']['few_step']['sweep']
  assert sweep['teacher'][0][2]['guidance']['against'] == 'weak'
  law = found['distil']['objective']['guidance']
  last = found['adversarial']['objective']
  critic = found['adversarial']['roles']['discriminator']['objective']
  assert last['base']['guidance'] == last['fakes']['guidance'] == law
  assert critic['fakes'] == last['fakes']
