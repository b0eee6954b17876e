"""A command, or an option of a job, that is mistyped; see mistyped.py."""

import pytest
from mistyped import reads_as

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
def test_a_command_that_is_wrong(type_in, points, tmp_path, typed):
  words = [points if word == 'CONFIG' else word for word in typed.split()]
  workdir = str(tmp_path / 'workdir')
  message = type_in(*words).replace(workdir, 'W')
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
def test_an_option_of_plan_that_is_wrong(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', '--job=plan', typed)
  assert message.startswith(PLAN[typed])


@pytest.mark.parametrize('typed', GENERATE)
def test_an_option_of_a_job_that_is_wrong(type_in, stages, typed):
  message = type_in(stages, '--workdir=W', '--job=generate', typed)
  assert message.startswith(GENERATE[typed])


@pytest.mark.parametrize('label', ['-7', '-2', '99', f'{10**23}'])
def test_a_label_that_no_class_has(type_in, images, label):
  message = type_in(images, '--workdir=W', '--job=generate', f'--label={label}')
  assert message.startswith(f'--label={label} must be an integer in 0 to 9, or')


@pytest.mark.parametrize('label', ['2.7', 'nan', 'cat', '', '٣', '[1]', 'none'])
def test_a_label_that_is_no_number(type_in, images, label):
  message = type_in(images, '--workdir=W', '--job=generate', f'--label={label}')
  assert message == f'--label={label} must be int'


def test_a_label_that_does_not_exist(type_in, images):
  message = type_in(images, '--workdir=W', '--job=generate', '--label=11')
  assert (
    message == '--label=11 must be an integer in 0 to 9, or 10 for "no class"'
  )


def test_a_sampler_that_would_not_be_used(type_in, stages):
  typed = [stages, '--workdir=W', '--job=evaluate', '--sampler=heun']
  message = type_in(*typed)
  assert message.startswith('--sampler=heun --nfe=4 has no effect without')
  message = type_in(*typed, '--model=teacher')
  assert message.startswith('--sampler=heun --nfe=4: nfe = 4 is not')
  _, options = type_in(*typed, '--model=teacher', '--nfe=5')
  assert (options.sampler, options.nfe) == (('heun',), (5,))


def test_an_option_of_compare(type_in, stages):
  message = type_in(stages, '--workdir=W', '--job=compare', '--metrc=energy')
  assert reads_as(
    message,
    "--metrc: --job=compare has no such option; did you mean 'metric'?",
  )
