"""A way to draw samples that is mistyped; see mistyped.py."""

import pytest

from flowdistill.build.sampling_plan import combinations
from flowdistill.config.sampling import Samplings

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
def test_a_way_to_draw_that_does_not_exist(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', '--job=generate', typed)
  assert message.startswith(SAMPLING[typed])


@pytest.mark.parametrize('typed', PRESET)
def test_a_preset_that_cannot_be(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', '--job=generate', *typed.split())
  assert PRESET[typed] in message


@pytest.mark.parametrize('typed', TUNE)
def test_what_cannot_be_tuned(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', '--job=evaluate', *typed.split())
  assert message.startswith(TUNE[typed])


@pytest.mark.parametrize('typed', GAMMA)
def test_an_option_of_a_sampler_that_is_wrong(type_in, stages, typed):
  command = [stages, '--workdir=W', '--job=generate', '--sampler=gamma', typed]
  message = type_in(*command)
  assert message.startswith(f'--sampler=gamma --nfe=4 {typed}: {GAMMA[typed]}')


def only(options):
  """The one way to draw, also of a job that takes several."""
  if isinstance(options, Samplings):
    (options,) = combinations(options)
  return options


def test_every_combination_is_drawn(type_in, images):
  typed = [images, '--workdir=W', '--job=evaluate', '--model=student']
  typed += ['--sampler=euler,rk45', '--nfe=2,4,none', '--guidance=none,1.5']
  typed += ['--grid=uniform; name=shifted, shift=2']
  _, options = type_in(*typed)
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
def test_a_list_of_ways_to_draw_that_is_wrong(type_in, images, typed):
  role = 'x' if 'model=x' in LISTS[typed] else 'student'
  models = [] if typed.startswith('--model') else [f'--model={role}']
  message = type_in(images, '--workdir=W', '--job=evaluate', *models, typed)
  assert message.startswith(LISTS[typed])


@pytest.mark.parametrize('job', ['generate', 'evaluate'])
def test_ways_to_draw(type_in, images, job):
  typed = [images, '--workdir=W', f'--job={job}', '--model=student']
  typed += ['--sampler=gamma', '--nfe=6', '--options=gamma=0.3']
  typed += ['--grid=name=shifted, shift=2', '--guidance=1.5']
  options = only(type_in(*typed)[1])
  assert (options.sampler, options.nfe) == ('gamma', 6)
  assert options.how() == {
    'gamma': 0.3,
    'grid': {'name': 'shifted', 'shift': 2},
    'guidance': 1.5,
  }
  interval = '--guidance=scale=2, low=0.2, high=0.8'
  options = only(
    type_in(*typed[:4], '--sampler=rk45', '--nfe=none', interval)[1]
  )
  assert (options.nfe, options.grid) == (None, None)
  assert options.guidance == {'scale': 2, 'low': 0.2, 'high': 0.8}
  message = type_in(*typed[:6], '--nfe=3', '--guidance=2')
  assert message.startswith(
    '--sampler=gamma --nfe=3 --guidance=2.0: nfe = 3 is not possible for '
    'gamma; the nearest are 2 and 4'
  )


@pytest.mark.parametrize('typed', ['--grid=shifted', '--guidance=2', '--nfe=1'])
def test_a_way_to_draw_that_would_not_be_used(type_in, images, typed):
  message = type_in(images, '--workdir=W', '--job=evaluate', typed)
  assert 'has no effect without --model, such as --model=student' in message
