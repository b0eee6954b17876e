"""Training without pictures: refused where they are needed."""

from types import SimpleNamespace

import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.stages.check_data_free import check_data_free

CONFIG = f'{tiny.CONFIGS / "twinflow.py"}:data_free,runlocal'
BARE = ('evaluators={}', 'evaluation.features=none')


def stage(*, data_free=True, pairs=None, stream=False):
  """What the check asks of a blueprint."""
  return SimpleNamespace(
    stage=SimpleNamespace(
      train=SimpleNamespace(data_free=data_free), pairs=pairs
    ),
    data=SimpleNamespace(record=SimpleNamespace(stream=stream)),
    key=lambda key: f'stages.s.{key}',
    learner_key=lambda role, key: f'stages.s.{key}',
    learner_spec=lambda role: {'objective': {'name': 'ayf_emd'}},
  )


def test_an_objective_of_conditions_alone_is_accepted():
  check_data_free(stage(), {'student': {'label'}})
  check_data_free(stage(data_free=False), {'student': {'x0', 'label'}})


@pytest.mark.parametrize(
  ('given', 'read', 'message'),
  [
    ({}, {'x0', 'label'}, "stages.s.objective = 'ayf_emd' reads them"),
    ({'pairs': 'stage:pairs'}, {'x1'}, 'data_free has no effect: the stage is'),
    ({'stream': True}, {'text'}, 'must go with a data set that has an index'),
  ],
)
def test_what_is_refused(given, read, message):
  with pytest.raises(ConfigError, match=message):
    check_data_free(stage(**given), {'student': read})


@pytest.mark.slow
def test_the_recipe_is_accepted_and_needs_its_objective(tmp_path):
  specs = tiny.stages(CONFIG, *BARE)
  assert specs['few_step']['train']['data_free']
  tiny.check_here(specs, tmp_path)
  flow = tiny.stages(CONFIG, *BARE, 'stages.flow.train.data_free=true')
  message = "config.stages.flow.objective = 'rectified_flow' reads them"
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(flow, tmp_path)
  flipped = tiny.stages(CONFIG, *BARE, 'stages.few_step.train.flip=true')
  with pytest.raises(ConfigError, match='flip has no effect: no picture'):
    tiny.check_here(flipped, tmp_path)
