"""Pairs that cannot be made, and folders of other pairs."""

import shutil

import pytest
from jobs import tiny
from jobs.pairing import contents, make

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import JOBS, pairs, train
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import check_options, parse_options


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
def test_what_cannot_guide_pairs(made, tmp_path, given, message):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(made[0], f'stages.guided.{given}'), tmp_path)


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
def test_what_cannot_be_made_raises(made, options, message):
  with pytest.raises(ConfigError, match=message):
    make(made, **options)


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
def test_the_calls_are_those_of_the_direction(made, given, message):
  """Heun's last step to data is shorter than its first one from data."""
  pairs_of_text = [text.split('=', 1) for text in given.split()]
  options = parse_options(JOBS, 'pairs', pairs_of_text)
  of_run = Blueprints.of_run(made[1])
  if message is None:
    check_options(options, of_run, 'flow')
    return
  with pytest.raises(ConfigError, match=message):
    check_options(options, of_run, 'flow')


def test_a_folder_of_other_pairs_is_left_alone(made):
  config, workdir = made
  before = contents(workdir / 'pairs' / 'pairs')
  stages = tiny.stages(config, 'stages.pairs.seed=1')
  with pytest.raises(ConfigError, match=r'config\.seed was 0, is 1'):
    tiny.run(pairs, stages, workdir, pairs.Options())
  options = pairs.Options(stage='flow', out=str(workdir / 'pairs' / 'pairs'))
  with pytest.raises(ConfigError, match='holds other pairs'):
    tiny.run(pairs, tiny.stages(config), workdir, options)
  assert contents(workdir / 'pairs' / 'pairs') == before


def test_a_stage_does_not_go_on_with_other_pairs(made, tmp_path):
  config, workdir = made
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
def test_a_config_that_is_wrong_is_refused(made, override, message):
  with pytest.raises(ConfigError, match=message):
    tiny.train_here(made[1], made[0], override)
