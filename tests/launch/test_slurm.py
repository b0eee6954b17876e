"""slurm.sh, and the job that it submits."""

import pytest

LINE = ['--time=24:00:00', '--config=configs/quickstart.py', '--workdir=/s/r']
TRAINING = [
  *('python', '-m', 'flowdistill.main', '--config=configs/quickstart.py'),
  *('--workdir=/s/r', '--distributed'),
]


def test_it_submits_one_process_per_gpu(machine):
  override = "--config.frozen={'teacher': 'stage:flow'}"
  done = machine.run(
    *('slurm.sh', *LINE, '--name=r', '--nodes=2', '--gpus=8', '--grace=60'),
    *('--partition=p', '--account=a', '--restarts=5', '--', override),
  )
  assert done.returncode == 0, done.stderr
  assert machine.calls == [
    [
      *('sbatch', '--job-name=r', '--nodes=2', '--ntasks-per-node=8'),
      *('--gpus-per-node=8', '--time=24:00:00', '--partition=p'),
      *('--account=a', '--requeue', '--open-mode=append', '--signal=TERM@60'),
      *('launch/slurm.sbatch', '5', *TRAINING, override),
    ]
  ]


def test_one_gpu_is_the_default(machine):
  machine.run('slurm.sh', *LINE)
  assert machine.calls == [
    [
      *('sbatch', '--job-name=flowdistill', '--nodes=1'),
      *('--ntasks-per-node=1', '--gpus-per-node=1', '--time=24:00:00'),
      *('--requeue', '--open-mode=append', '--signal=TERM@120'),
      *('launch/slurm.sbatch', '100', *TRAINING),
    ]
  ]


@pytest.fixture
def cluster(machine):
  machine.add('srun', 'squeue', 'scontrol')
  return machine


def job(cluster, *, restarts='3', **environment):
  return cluster.run(
    *('slurm.sbatch', restarts, *TRAINING, '--config.a=b c'),
    SLURM_JOB_ID='17',
    **environment,
  )


SRUN = ['srun', '--kill-on-bad-exit=0', *TRAINING, '--config.a=b c']
LOOK = ['squeue', '--noheader', '--format=%T', '--jobs=17']
REQUEUE = ['scontrol', 'requeue', '17']


@pytest.mark.parametrize('code', [0, 1, 2, 3])
def test_a_job_that_has_ended_stays_so(cluster, code):
  cluster.reply(('srun', [code]))
  assert job(cluster).returncode == code
  assert cluster.calls == [SRUN]


@pytest.mark.parametrize('code', [75, 137, 143])
@pytest.mark.parametrize('state', ['echo RUNNING', 1])
def test_a_job_that_was_preempted_is_queued_again(cluster, code, state):
  cluster.reply(('srun', [code]), ('squeue', [state]))
  assert job(cluster).returncode == code
  assert cluster.calls == [SRUN, LOOK, REQUEUE]


@pytest.mark.parametrize('state', ['COMPLETING', 'CANCELLED'])
def test_a_job_that_was_cancelled_is_not(cluster, state):
  cluster.reply(('srun', [75]), ('squeue', [f'echo {state}']))
  done = job(cluster)
  assert cluster.calls == [SRUN, LOOK]
  assert done.stderr == f'job 17 is {state}: not requeued here\n'


def test_restarts_have_a_limit(cluster):
  cluster.reply(('srun', [75]), ('squeue', ['echo RUNNING']))
  job(cluster, SLURM_RESTART_COUNT='2')
  assert cluster.calls[-1] == REQUEUE
  done = job(cluster, SLURM_RESTART_COUNT='3')
  assert cluster.calls[-1] == LOOK
  assert 'gave up after 3 restarts' in done.stderr


def test_sigterm_leaves_the_job_time_to_queue_again(cluster):
  """SLURM may signal the script as well as the tasks."""
  cluster.reply(('srun', ['kill -TERM $PPID; sleep 0.1; exit 75']))
  assert job(cluster).returncode == 75
  assert cluster.calls[-1] == REQUEUE
