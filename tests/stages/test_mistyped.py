"""What is wrong in a stage, before a device is touched; see mistyped.py."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from mistyped import IMAGES, STAGES

ROOT = pathlib.Path(__file__).parents[2]

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
def test_a_sweep_that_cannot_be_drawn(type_in, points, typed):
  key = 'config.evaluators.energy.sweep'
  message = type_in(points, '--workdir=W', f'--{key}={typed}')
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
  type_in, images, typed, expected
):
  message = type_in(images, '--workdir=W', f'--config.{typed}')
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
def test_what_is_wrong_in_a_stage(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', f'--config.{typed}')
  assert message.startswith(STAGE[typed])


def test_a_teacher_of_other_data(type_in, stages):
  other = ['dataset=digits', 'network=dit', 'network.depth=1']
  typed = [f'--config.stages.distil.{text}' for text in other]
  message = type_in(
    stages, '--workdir=W', *typed, '--config.stages.distil.init_from=none'
  )
  assert message == (
    "config.stages.distil.frozen.teacher = 'stage:flow' knows examples [2], "
    'and this data set has examples [8, 8, 1] with 10 classes'
  )


def test_a_folder_that_is_no_run_of_ours(type_in, stages, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'unet'}))
  key = 'config.stages.flow.init_from'
  message = type_in(stages, '--workdir=W', f'--{key}={tmp_path}')
  assert message.startswith(
    f'{key}: {tmp_path / "config.json"} was not written'
  )


def test_a_folder_without_a_checkpoint(type_in, stages, points, tmp_path):
  made, _ = type_in(points, '--workdir=W')
  (tmp_path / 'config.json').write_text(json.dumps({'config': made['run']}))
  key = 'config.stages.flow.init_from'
  message = type_in(stages, '--workdir=W', f'--{key}={tmp_path}')
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
def test_an_entry_of_a_sweep_with_options(
  type_in, write_config, images, option, entry
):
  key = f'config.evaluators.any.{option}'
  path = write_config(
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
  message = type_in(f'--config={path}', '--workdir=W')
  assert message.startswith(f'{key}.student has {entry}: {ENTRIES[entry]}')


def test_a_network_that_is_told_its_guidance_asks_once(type_in, write_config):
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
  path = write_config(STAGES, change, name='told.py')
  generate = [f'--config={path}', '--workdir=W', '--job=generate', '--nfe=3']
  _, options = type_in(*generate, '--guidance=3')
  assert (options.nfe, options.how()) == (3, {'guidance': 3.0})
  message = type_in(*generate, '--guidance=scale=2, low=2')
  assert 'must have 0 <= low <= high <= 1' in message
  message = type_in(*generate, '--guidance=3', '--model=teacher')
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
def test_a_diagnostic_that_cannot_be_made(type_in, points, typed):
  name, _, option = typed.partition('.')
  overrides = [f'--config.evaluators.energy.name={name}']
  overrides += [f'--config.evaluators.energy.{option}'] * bool(option)
  message = type_in(points, '--workdir=W', *overrides)
  assert message == f'config.evaluators.energy.{DIAGNOSTICS[typed]}'
