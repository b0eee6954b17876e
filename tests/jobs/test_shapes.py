"""Captioned shapes in a job: trained on, and measured by GenEval."""

import documented
import numpy as np
import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.metrics.geneval import TAGS

CONFIG = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'
SHAPES = {'name': 'shapes', 'size': 24, 'classes': 'category'}
TRAINED = f'dataset={ {**SHAPES, "split": "train"}!r}'
EVALUATION = 'stages.distil.evaluation.dataset'
HELD_OUT = f'{EVALUATION}={ {**SHAPES, "split": "validation"}!r}'
EVALUATORS = 'stages.distil.evaluators'
GENEVAL = f"{EVALUATORS}={{'geneval': {{'name': 'geneval', 'samples': 12}}}}"
NO_FEATURES = 'evaluation.features=none'


def test_held_out_prompts_are_checked(tmp_path):
  stages = tiny.stages(CONFIG, TRAINED, HELD_OUT, NO_FEATURES, GENEVAL)
  blueprints = tiny.check_here(stages, tmp_path)
  source = blueprints['distil'].measured
  assert source.title == 'shapes validation'
  assert [prompt.tag for prompt in source.prompts(np.arange(6))] == [*TAGS]
  assert source.prompts(np.arange(6))[3].text == source.captions([3])[0]
  assert source.detect(source[0]['x0'])[0].kind
  digits = tiny.stages(CONFIG, NO_FEATURES, GENEVAL)
  with pytest.raises(ConfigError, match='geneval needs data with prompts'):
    tiny.check_here(digits, tmp_path / 'digits')


def test_pictures_that_say_left_are_not_mirrored(tmp_path):
  stages = tiny.stages(
    CONFIG, TRAINED, NO_FEATURES, f'{EVALUATORS}={{}}', 'train.flip=true'
  )
  message = 'captions of this data set do not hold of mirrored pictures'
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(stages, tmp_path)


def test_the_config_of_the_documentation_is_accepted(tmp_path):
  (text,) = (
    command.text
    for command in documented.commands()
    if command.words.startswith("'evaluation': {'dataset': {'name': 'shapes'")
  )
  given = eval(f'{{{text}}}')
  stages = tiny.stages(
    CONFIG.removesuffix(':runlocal'),
    "dataset={'name': 'shapes', 'split': 'train'}",
    f'{EVALUATION}={given["evaluation"]["dataset"]!r}',
    f'{EVALUATORS}={given["evaluators"]!r}',
    NO_FEATURES,
    'train.drop_cond=0.0',
  )
  tiny.check_here(stages, tmp_path)


@pytest.mark.slow
def test_a_run_is_measured(tmp_path):
  rows = tiny.train_here(
    tmp_path,
    CONFIG,
    TRAINED,
    HELD_OUT,
    NO_FEATURES,
    GENEVAL,
    f"{EVALUATORS}.geneval.sweep={{'student': [['flow_map', 1]]}}",
  )
  (row,) = rows
  assert (row['model'], row['samples'], row['reference']) == (
    'student',
    12,
    'shapes validation',
  )
  shares = [row[f'geneval_{tag}'] for tag in TAGS]
  assert row['geneval'] == pytest.approx(np.mean(shares))
  assert 0 <= row['geneval'] < 0.5  # after two steps
