"""tpu_vm.sh and queued_resources.sh, which share tpu.sh and watch.sh."""

import os
import subprocess
import tarfile

import pytest

VM = ['gcloud', 'compute', 'tpus', 'tpu-vm']
QUEUE = ['gcloud', 'compute', 'tpus', 'queued-resources']
WHERE = ['--name=t', '--zone=z', '--project=p']
TRAINING = ['--config=configs/quickstart.py', '--workdir=/mnt/b/r']
WATCH = [*WHERE, *TRAINING, '--type=v5litepod-8', '--interval=0']
MAIN = (
  'cd flowdistill && flock .lock ../venv/bin/python -m flowdistill.main'
  ' --config=configs/quickstart.py --workdir=/mnt/b/r --distributed'
)


def verbs(calls):
  """The calls of a watch, abbreviated: ssh is for the setup or the training."""
  short = []
  for call in calls:
    word = call[4] if call[0] == 'gcloud' else call[0]
    if word == 'ssh':
      word = 'run' if 'flowdistill.main' in call[-1] else 'install'
    short.append(word)
  return ' '.join(short).replace('tar scp install', 'setup')


@pytest.mark.parametrize(
  ('kind', 'version'),
  [
    ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
    ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-8', 'v2-alpha-tpuv6e'),
    ('v4-8', 'tpu-ubuntu2204-base'),
  ],
)
def test_create_asks_for_the_version_of_the_type(kind, version, machine):
  done = machine.run('tpu_vm.sh', 'create', *WHERE, f'--type={kind}', '--spot')
  machine.run('queued_resources.sh', 'create', *WHERE, f'--type={kind}')
  machine.run('tpu_vm.sh', 'create', *WHERE, f'--type={kind}', '--version=mine')
  assert done.returncode == 0
  where = ['--zone=z', '--project=p', f'--accelerator-type={kind}']
  queued = ['t', '--node-id=t', *where, f'--runtime-version={version}']
  assert machine.calls == [
    [*VM, 'create', 't', *where, f'--version={version}', '--spot'],
    [*QUEUE, 'create', *queued],
    [*VM, 'create', 't', *where, '--version=mine'],
  ]


def test_an_unknown_type_needs_a_version(machine):
  line = ['tpu_vm.sh', 'create', *WHERE, '--type=v9-8']
  done = machine.run(*line)
  assert done.returncode == 2
  assert done.stderr.startswith('error: --type=v9-8 must be like v5litepod-8')
  assert machine.calls == []
  assert machine.run(*line, '--version=v2-alpha-tpuv9').returncode == 0


def test_status_and_delete(machine):
  machine.run('tpu_vm.sh', 'delete', '--name=t', '--zone=z')
  machine.run('queued_resources.sh', 'delete', *WHERE)
  machine.run('queued_resources.sh', 'status', *WHERE)
  where = ['t', '--zone=z', '--project=p']
  assert machine.calls == [
    [*VM, 'delete', 't', '--zone=z', '--quiet'],
    [*QUEUE, 'delete', *where, '--force', '--quiet'],
    [*QUEUE, 'describe', *where, '--format=value(state.state)'],
  ]


@pytest.mark.parametrize('script', ['tpu_vm.sh', 'queued_resources.sh'])
def test_setup_and_run_reach_all_workers(script, machine):
  machine.run(script, 'setup', *WHERE, '--bucket=b')
  machine.run(script, 'run', *WHERE, *TRAINING, '--', '--config.seed=1')
  where = ['--zone=z', '--project=p', '--worker=all']
  archive = f'{machine.folder}/flowdistill-t.tar.gz'
  tar, scp, install, run = machine.calls
  assert tar[:4] == ['tar', '-czf', archive, '--exclude=__pycache__']
  assert scp == [*VM, 'scp', archive, 't:flowdistill.tar.gz', *where]
  assert install == [
    *(*VM, 'ssh', 't', *where),
    '--command=mkdir -p flowdistill && tar -xzf flowdistill.tar.gz'
    ' -C flowdistill && flowdistill/launch/tpu_host.sh b',
  ]
  assert run == [
    *(*VM, 'ssh', 't', *where, f'--command={MAIN} --config.seed=1')
  ]


@pytest.mark.parametrize('code', [0, 1, 2, 75, 143, 255])
def test_run_passes_the_exit_code_on(code, machine):
  machine.reply(('ssh', [code]))
  assert machine.run('tpu_vm.sh', 'run', *WHERE, *TRAINING).returncode == code


def test_a_setup_that_fails_stops_there(machine):
  machine.reply(('scp', [3]))
  done = machine.run('tpu_vm.sh', 'setup', *WHERE)
  assert (done.returncode, verbs(machine.calls)) == (3, 'tar scp')


def test_arguments_come_through_ssh_unharmed(machine):
  """Runs the command for the TPU host in a shell."""
  words = [
    "--config.frozen={'teacher': 'stage:flow'}",
    '--config.a=two  spaces',
    '--config.b="$HOME" `id` \\n * ? ~ ! # ; & | < > ( ) [ ]',
    '--config.c=line\nline',
    '--config.d=ä€',
    '',
  ]
  (machine.folder / 'flowdistill').mkdir()
  (machine.folder / 'venv/bin').mkdir(parents=True)
  os.symlink('../../bin/python', machine.folder / 'venv/bin/python')
  machine.reply(('gcloud', ['cd && eval "$COMMAND"']), ('python', [75]))
  done = machine.run(
    *('tpu_vm.sh', 'run', *WHERE, '--config=configs/quickstart.py:a b'),
    *('--workdir=~/it is', '--', *words),
  )
  assert done.returncode == 75, done.stderr
  assert machine.calls[-1] == [
    *('python', '-m', 'flowdistill.main'),
    '--config=configs/quickstart.py:a b',
    *('--workdir=~/it is', '--distributed', *words),
  ]


def test_the_lock_makes_a_second_run_wait(machine):
  (machine.folder / 'flowdistill').mkdir()
  (machine.folder / 'venv/bin').mkdir(parents=True)
  os.symlink('../../bin/python', machine.folder / 'venv/bin/python')
  again = 'cd; (eval "$COMMAND") & sleep 0.1; eval "$COMMAND"; wait'
  machine.reply(
    ('gcloud', [again]),
    ('python', ['sleep 0.3; echo one >> log', 'echo two >> log']),
  )
  machine.run('tpu_vm.sh', 'run', *WHERE, *TRAINING)
  log = machine.folder / 'flowdistill/log'
  assert log.read_text().split() == ['one', 'two']


def test_the_archive_holds_what_the_host_installs(machine):
  (machine.folder / 'bin/tar').unlink()
  assert machine.run('tpu_vm.sh', 'setup', *WHERE).returncode == 0
  with tarfile.open(machine.folder / 'flowdistill-t.tar.gz') as archive:
    names = set(archive.getnames())
    assert archive.getmember('launch/tpu_host.sh').mode & 0o100
  assert {'setup.py', 'README.md', 'LICENSE', 'configs/quickstart.py'} <= names
  assert 'flowdistill/networks/digit_classifier.npz' in names
  assert not [x for x in names if '__pycache__' in x or x.startswith('tests')]


class TestWatch:
  def watch(self, machine, *table, script='tpu_vm.sh', extra=()):
    machine.reply(*((k, [*v]) for k, v in table))
    return machine.run(script, 'watch', *WATCH, *extra)

  @pytest.mark.parametrize('code', [0, 1, 2, 3])
  def test_it_ends_with_the_training(self, machine, code):
    done = self.watch(
      machine, ('describe', ['echo READY']), ('flowdistill.main', [code])
    )
    assert done.returncode == code
    look = ' describe' if code else ''
    assert verbs(machine.calls) == f'describe setup run{look}'

  def test_what_is_preempted_is_replaced_and_resumed(self, machine):
    states = ['READY', 'PREEMPTED', 'CREATING', 'READY']
    done = self.watch(
      machine,
      ('describe', [f'echo {state}' for state in states]),
      ('flowdistill.main', [75, 0]),
      extra=['--spot', '--', '--config.seed=1'],
    )
    assert done.returncode == 0
    assert verbs(machine.calls) == (
      'describe setup run describe delete create describe describe setup run'
    )
    runs = [c[-1] for c in machine.calls if 'flowdistill.main' in c[-1]]
    assert runs == [f'--command={MAIN} --config.seed=1'] * 2
    create = next(c for c in machine.calls if 'create' in c)
    assert create[5:] == [
      *('t', '--zone=z', '--project=p', '--accelerator-type=v5litepod-8'),
      *('--version=v2-alpha-tpuv5-lite', '--spot'),
    ]
    assert done.stderr.splitlines() == [f't: {state}' for state in states]

  def test_terminated_is_replaced_too(self, machine):
    states = ['echo TERMINATED', 'echo READY']
    self.watch(machine, ('describe', states))
    assert verbs(machine.calls) == 'describe delete create describe setup run'

  def test_what_is_missing_is_created(self, machine):
    self.watch(machine, ('describe', [1, 'echo READY']))
    assert verbs(machine.calls) == 'describe create describe setup run'

  def test_a_failure_of_a_machine_that_has_gone_is_none(self, machine):
    """gcloud itself exits with 1 when it cannot reach the machine."""
    done = self.watch(
      machine,
      (
        'describe',
        ['echo READY', 'echo PREEMPTED', 'echo PREEMPTED', 'echo READY'],
      ),
      ('flowdistill.main', [1, 0]),
    )
    assert done.returncode == 0
    assert verbs(machine.calls) == (
      'describe setup run describe describe delete create describe setup run'
    )

  @pytest.mark.parametrize('code', [75, 129, 137, 143, 255])
  def test_preempted_and_killed_run_again(self, machine, code):
    done = self.watch(
      machine, ('describe', ['echo READY']), ('flowdistill.main', [code, 0])
    )
    assert done.returncode == 0
    assert verbs(machine.calls) == 'describe setup run describe setup run'

  def test_it_runs_on_nothing_that_is_not_set_up(self, machine):
    self.watch(machine, ('describe', ['echo READY']), ('tpu_host', [1, 0]))
    assert verbs(machine.calls) == 'describe setup describe setup run'

  def test_it_goes_on_when_nothing_can_be_created(self, machine):
    self.watch(machine, ('describe', [1, 1, 'echo READY']), ('create', [1, 0]))
    assert verbs(machine.calls) == (
      'describe create describe create describe setup run'
    )

  def test_it_gives_up(self, machine):
    done = self.watch(
      machine,
      ('describe', ['echo READY']),
      ('flowdistill.main', [75]),
      extra=['--restarts=2'],
    )
    assert done.returncode == 75
    assert done.stderr.endswith('error: gave up; --restarts=N allows more\n')
    assert verbs(machine.calls).count('run') == 3

  def test_a_queued_resource_waits_for_its_turn(self, machine):
    states = [
      *('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE', 'SUSPENDING'),
      *('SUSPENDED', 'ACTIVE'),
    ]
    done = self.watch(
      machine,
      ('describe', [1, *(f'echo {state}' for state in states)]),
      ('flowdistill.main', [75, 0]),
      script='queued_resources.sh',
    )
    assert done.returncode == 0
    assert verbs(machine.calls) == (
      'describe create describe describe describe setup run'
      ' describe describe delete create describe setup run'
    )
    by = {c[4]: c[3] for c in machine.calls if c[0] == 'gcloud'}
    assert by['create'] == by['delete'] == 'queued-resources'

  def test_a_request_that_failed_is_made_again(self, machine):
    self.watch(
      machine,
      ('describe', ['echo FAILED', 'echo ACTIVE']),
      script='queued_resources.sh',
    )
    assert verbs(machine.calls) == 'describe delete create describe setup run'

  def test_a_workdir_on_the_machine_is_refused(self, machine):
    done = machine.run('tpu_vm.sh', 'watch', *WATCH, '--workdir=runs/r')
    assert done.returncode == 2
    assert done.stderr.startswith(
      'error: --workdir=runs/r must outlive the machine;'
    )
    assert machine.calls == []

  def test_a_dry_run_shows_one_round(self, machine):
    done = machine.run('tpu_vm.sh', 'watch', *WATCH, '--dry_run')
    words = [
      *('describe', '# if it is PREEMPTED|TERMINATED', 'delete', 'create'),
      *('# when it is READY', 'tar -czf', 'scp', 'tpu_host.sh'),
      'flowdistill.main',
    ]
    lines = done.stdout.splitlines()
    assert len(lines) == len(words)
    for word, line in zip(words, lines, strict=True):
      assert word in line


def host(machine, *arguments):
  """Runs tpu_host.sh as it lies on a TPU host."""
  script = machine.folder / 'flowdistill/launch/tpu_host.sh'
  script.parent.mkdir(parents=True, exist_ok=True)
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  with open(f'{root}/launch/tpu_host.sh', encoding='utf-8') as file:
    script.write_text(file.read())
  return subprocess.run(
    ['bash', script, *arguments], env=machine.environment, check=False
  )


def test_a_host_installs_and_mounts_once(machine):
  machine.add('python3', 'sudo', 'mountpoint', 'gcsfuse')
  machine.reply(('mountpoint', [1, 0]))
  assert host(machine).returncode == 0
  installs = machine.calls
  assert installs[-1] == [
    *('python3', '-m', 'uv', 'pip', 'install', '--quiet'),
    *('--python=venv/bin/python', '--editable', './flowdistill[tpu]'),
  ]
  assert {call[0] for call in installs} == {'python3'}
  assert host(machine, 'b').returncode == 0
  assert machine.calls[-1] == ['gcsfuse', '--implicit-dirs', 'b', '/mnt/b']
  before = len(machine.calls)
  assert host(machine, 'b').returncode == 0
  assert machine.calls[before:] == [*installs, ['mountpoint', '-q', '/mnt/b']]


def test_a_host_that_cannot_install_says_so(machine):
  machine.add('python3', 'mountpoint')
  machine.reply(('uv pip', [4]))
  assert host(machine, 'b').returncode == 4
  assert machine.calls[-1][0] == 'python3'
