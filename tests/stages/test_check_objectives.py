"""Objectives and roles that do not fit, refused in one line."""

import ast
import pathlib

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.config.tiny import TINY_NETWORKS
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import ANSWERS
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.check_objectives import TRAINS, check_objectives
from flowdistill.training.roles import DRAWABLE

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'jobs' / 'adversarial.py'
DIT = "{'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2}"
JUDGE = (
  "{'name': 'stylegan2_discriminator', 'channel_base': 32, 'channel_max': 8}"
)
ROLE = 'roles.discriminator.'


EDM2 = {'name': 'edm2', **TINY_NETWORKS['edm2']}
TWIN = {'name': 'twinflow', 'enhanced_ratio': 0.0}
NO_TWIN = {'kinds': {'adv': 0.0}, 'matching': 0.0}


@pytest.mark.parametrize(
  ('base', 'network', 'refused'),
  [
    (TWIN, {}, True),
    (TWIN, {'time': 'edm'}, True),
    (TWIN, {'time': 'linear'}, False),
    (TWIN | NO_TWIN, {'time': 'edm'}, False),
    ({'name': 'rcgm'}, {'time': 'edm'}, False),
  ],
)
@pytest.mark.parametrize('where', ['objective', 'objective.base'])
def test_a_twin_needs_a_network_that_tells_negative_times(
  tmp_path, where, base, network, refused
):
  """Also where it is finetuned adversarially."""
  overrides = [f'{where}={base}', f'network={EDM2 | network}']
  if where == 'objective':
    overrides += ['roles={}', 'frozen={}']
  blueprint = Blueprints(tiny.stages(CONFIG, *overrides), tmp_path)['run']
  if not refused:
    check_objectives(blueprint)
    return
  message = r"^config\.network\.time = 'edm' must be 'linear' for 'twinflow': "
  with pytest.raises(ConfigError, match=message):
    check_objectives(blueprint)


@pytest.mark.parametrize('form', ['plain', 'blockwise', 'fused'])
@pytest.mark.parametrize('tangent', ['jvp', 'difference'])
@pytest.mark.parametrize('where', ['objective', 'objective.base'])
def test_attention_under_jvp_must_not_be_fused(tmp_path, where, tangent, form):
  base = {'name': 'mean_flow', 'tangent': {'name': tangent}}
  network = {**ast.literal_eval(DIT), 'attention_form': form}
  network['dtype'] = 'bfloat16'
  overrides = [f'{where}={base}', f'network={network}']
  if where == 'objective':
    overrides += ['roles={}', 'frozen={}']
  blueprint = Blueprints(tiny.stages(CONFIG, *overrides), tmp_path)['run']
  if (tangent, form) != ('jvp', 'fused'):
    check_objectives(blueprint)
    return
  message = (
    r"^config\.network\.attention_form = 'fused' must be 'plain' or "
    r"'blockwise' for 'mean_flow', whose tangent = 'jvp' no fused attention has"
  )
  with pytest.raises(ConfigError, match=message):
    check_objectives(blueprint)


@pytest.mark.parametrize('name', ['edm_adm', 'edm_ncsnpp'])
def test_so_it_is_with_the_networks_of_edm(tmp_path, name):
  small = {'name': name, **TINY_NETWORKS['edm_ncsnpp'], 'time': 'edm'}
  overrides = [f'objective={TWIN}', f'network={small}', 'roles={}', 'frozen={}']
  blueprint = Blueprints(tiny.stages(CONFIG, *overrides), tmp_path)['run']
  with pytest.raises(ConfigError, match=r"'edm' must be 'linear' for 'twinfl"):
    check_objectives(blueprint)


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      [f'{ROLE}network={DIT}'],
      r"^config\.roles\.discriminator\.network = 'dit' must be a network of "
      r"the kind 'logits', such as 'stylegan2_discriminator': the objective "
      r"calls it as the discriminator, and it is of the kind 'average'",
    ),
    (
      [f'network={JUDGE}'],
      r"^config\.network = 'stylegan2_discriminator' must be a network of the "
      r"kind 'average', such as 'adm', 'dit'.*as the student.*'logits'",
    ),
    (
      [f'network={JUDGE}', 'objective=rectified_flow', 'roles={}'],
      r"^config\.network = 'stylegan2_discriminator' must be a network of",
    ),
    (
      ['objective.base=relativistic'],
      r"^config\.objective\.base = 'relativistic' must be an objective that "
      r"trains a student without a discriminator, such as 'ayf_emd'$",
    ),
    (
      ['objective.base=adversarial'],
      r"^config\.objective\.base = 'adversarial' must be an objective that",
    ),
    (
      ['objective=relativistic'],
      r"^config\.objective = 'relativistic' must be the objective of the "
      r'discriminator: it does not train the student$',
    ),
    (
      [f'{ROLE}objective=adversarial'],
      r"^config\.roles\.discriminator\.objective = 'adversarial' must be the "
      r'objective of the student: it does not train the discriminator$',
    ),
    (
      ['objective=mean_flow', f'{ROLE}objective=rectified_flow'],
      r'^config\.roles\.discriminator\.objective does not train the '
      r"discriminator: it calls only \['student'\]$",
    ),
    (
      ['objective.fakes.nfe=3'],
      r'^config\.roles\.discriminator\.objective\.fakes\.nfe = 2 must be 3, as '
      r'in config\.objective: the discriminator would judge other samples',
    ),
    (
      [f'{ROLE}objective.fakes.gamma=0.25'],
      r'^config\.roles\.discriminator\.objective\.fakes\.gamma = 0\.25 must be '
      r'0\.5, as in',
    ),
    (
      ["objective.fakes.guidance={'name': 'fixed', 'scale': 2.0}"],
      r'fakes\.guidance = None must be .*fixed',
    ),
  ],
)
def test_what_does_not_fit_is_refused(overrides, message):
  with pytest.raises(ConfigError, match=message) as caught:
    tiny.check_here(tiny.stages(CONFIG, *overrides), pathlib.Path('nowhere'))
  assert '\n' not in str(caught.value)


def test_a_discriminator_that_nobody_asks_is_refused():
  specs = tiny.stages(CONFIG, 'objective=mean_flow')
  message = r'^config\.roles\.discriminator has no effect: no other objective'
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(specs, pathlib.Path('nowhere'))


SCALES = "{'name': 'uniform', 'low': 1.0, 'high': 2.0}"
GUIDED = [
  "network.scalars=('guidance',)",
  f"objective.base={{'name': 'ayf_emd', 'guidance': {SCALES}}}",
]


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      [f'{at}objective.fakes.guidance={SCALES}' for at in ('', ROLE)],
      r'^config\.objective\.fakes\.guidance has no effect: '
      r"config\.network\.scalars has no 'guidance'$",
    ),
    (
      GUIDED,
      r'^config\.objective\.fakes\.guidance = None must be .*uniform.*, as in '
      r'config\.objective\.base: the student takes λ as a condition$',
    ),
  ],
)
def test_the_scale_of_fakes_is_that_of_the_base(overrides, message):
  stages = Blueprints(tiny.stages(CONFIG, *overrides), pathlib.Path('nowhere'))
  with pytest.raises(ConfigError, match=message):
    check_objectives(stages['run'])


def test_fakes_that_are_changed_in_both_are_taken():
  both = ['objective.fakes.nfe=3', f'{ROLE}objective.fakes.nfe=3']
  stages = Blueprints(tiny.stages(CONFIG, *both), pathlib.Path('nowhere'))
  check_objectives(stages['run'])


def test_the_config_of_the_documentation_is_accepted():
  text = (ROOT / 'docs' / 'objectives.md').read_text('utf-8')
  (block,) = (b for b in text.split('```') if b.startswith("python\n'distil'"))
  stage = ast.literal_eval('{' + block.removeprefix('python') + '}')['distil']
  role = 'stages.distil.roles.discriminator.'
  specs = tiny.stages(
    f'{ROOT / "configs" / "quickstart.py"}:runlocal',
    *(f'stages.distil.{key}={value}' for key, value in stage.items()),
    f'{role}network={JUDGE}',
    f"{role}start={{'steps': 1}}",
    *tiny.UNMEASURED,
  )
  assert tiny.check_here(specs, pathlib.Path('nowhere'))


def test_the_tables_name_what_exists():
  assert TRAINS.keys() <= OBJECTIVES.keys()
  assert set(TRAINS.values()) <= ANSWERS.keys()
  others = {'logits', 'distance', 'features'}
  assert {*DRAWABLE, *others} == set(ANSWERS.values())
