"""gke.sh, and the JobSet that it applies."""

import re

import pytest
import yaml

TPU = [
  *('--name=my-run', '--image=host/p/flowdistill:tpu', '--hosts=4'),
  *('--type=tpu-v6e-slice', '--topology=4x4', '--chips=4', '--bucket=b'),
  *('--config=configs/quickstart.py', '--workdir=/mnt/b/r'),
]
GPU = [
  *('--name=my-run', '--image=i', '--type=nvidia-h100-80gb', '--chips=8'),
  *('--bucket=b', '--config=configs/quickstart.py', '--workdir=/mnt/b/r'),
]
MAIN = [
  *('python', '-m', 'flowdistill.main', '--config=configs/quickstart.py'),
  '--workdir=/mnt/b/r',
]


def applied(machine, *line):
  done = machine.run('gke.sh', 'run', *line)
  assert done.returncode == 0, done.stderr
  assert machine.calls[-1] == [
    *('kubectl', '--namespace=default', 'apply', '--filename=-')
  ]
  return yaml.safe_load(machine.stdin)


def job(manifest):
  (worker,) = manifest['spec']['replicatedJobs']
  return worker['template']['spec']


def pod(manifest):
  return job(manifest)['template']['spec']


def test_a_tpu_slice(machine):
  manifest = applied(machine, *TPU)
  assert manifest['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
  assert manifest['kind'] == 'JobSet'
  assert manifest['metadata'] == {'name': 'my-run'}
  assert job(manifest)['parallelism'] == job(manifest)['completions'] == 4
  assert pod(manifest)['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v6e-slice',
    'cloud.google.com/gke-tpu-topology': '4x4',
  }
  (train,) = pod(manifest)['containers']
  assert train['image'] == 'host/p/flowdistill:tpu'
  assert train['command'] == [*MAIN, '--distributed']
  assert train['resources'] == {'limits': {'google.com/tpu': 4}}
  assert pod(manifest)['serviceAccountName'] == 'default'


def test_only_1_and_2_end_it(machine):
  manifest = applied(machine, *TPU, '--restarts=7')
  assert job(manifest)['backoffLimit'] == 0
  assert job(manifest)['podFailurePolicy'] == {
    'rules': [
      {
        'action': 'FailJob',
        'onExitCodes': {
          'containerName': pod(manifest)['containers'][0]['name'],
          'operator': 'In',
          'values': [1, 2],
        },
      }
    ]
  }
  assert manifest['spec']['failurePolicy'] == {
    'maxRestarts': 7,
    'rules': [
      {
        'name': 'failed',
        'action': 'FailJobSet',
        'onJobFailureReasons': ['PodFailurePolicy'],
      }
    ],
  }
  assert pod(manifest)['restartPolicy'] == 'Never'
  assert pod(manifest)['terminationGracePeriodSeconds'] == 120


def test_the_bucket_is_where_the_workdir_is(machine):
  manifest = applied(machine, *TPU, '--service_account=trainer')
  metadata = job(manifest)['template']['metadata']
  assert metadata['annotations'] == {'gke-gcsfuse/volumes': 'true'}
  volumes = {v['name']: v for v in pod(manifest)['volumes']}
  assert volumes['bucket']['csi'] == {
    'driver': 'gcsfuse.csi.storage.gke.io',
    'volumeAttributes': {
      'bucketName': 'b',
      'mountOptions': 'implicit-dirs',
    },
  }
  mounts = pod(manifest)['containers'][0]['volumeMounts']
  assert {'name': 'bucket', 'mountPath': '/mnt/b'} in mounts
  assert {m['name'] for m in mounts} == set(volumes)
  assert pod(manifest)['serviceAccountName'] == 'trainer'


def test_one_gpu_host_is_alone(machine):
  manifest = applied(machine, *GPU, '--spot')
  (train,) = pod(manifest)['containers']
  assert train['command'] == MAIN
  assert train['resources'] == {'limits': {'nvidia.com/gpu': 8}}
  assert pod(manifest)['nodeSelector'] == {
    'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb',
    'cloud.google.com/gke-spot': 'true',
  }


def test_several_gpu_hosts_are_told_where_the_first_is(machine):
  manifest = applied(machine, *GPU, '--hosts=2')
  (worker,) = manifest['spec']['replicatedJobs']
  first = f'my-run-{worker["name"]}-0-0.my-run'
  assert pod(manifest)['containers'][0]['command'][-4:] == [
    *('--distributed', '--num_processes=2', f'--coordinator={first}:8476'),
    '--process_id=$(JOB_COMPLETION_INDEX)',
  ]


def expanded(text):
  """An argument after expansion by Kubernetes, without any variable set."""
  return re.sub(r'\$\$|\$\((\w+)\)', lambda m: '' if m[1] else '$', text)


def test_arguments_come_through_unharmed(machine):
  words = [
    "--config.frozen={'teacher': 'stage:flow'}",
    '--config.a="$(HOME)" $$ $x \\n \\ & @NAME@x *',
    '--config.b=line\nand\ttab: # - ä€',
    '',
  ]
  manifest = applied(machine, *TPU, '--', *words)
  command = pod(manifest)['containers'][0]['command']
  assert [expanded(word) for word in command] == [
    *(*MAIN, *words, '--distributed')
  ]


def test_status_logs_and_delete(machine):
  for action in ('status', 'logs', 'delete'):
    machine.run('gke.sh', action, *TPU, '--namespace=team')
  kubectl = ['kubectl', '--namespace=team']
  assert machine.calls == [
    [*kubectl, 'get', 'jobset', 'my-run'],
    [
      *(*kubectl, 'logs', '--follow', '--prefix', '--tail=-1'),
      '--selector=jobset.sigs.k8s.io/jobset-name=my-run',
      *('--container=train', '--max-log-requests=4'),
    ],
    [*kubectl, 'delete', 'jobset', 'my-run'],
  ]


def test_a_dry_run_prints_what_would_be_applied(machine):
  done = machine.run('gke.sh', 'run', *TPU, '--dry_run')
  first, *manifest, last = done.stdout.splitlines()
  assert first == "kubectl --namespace=default apply --filename=- <<'EOF'"
  assert last == 'EOF'
  assert machine.calls == []
  assert yaml.safe_load('\n'.join(manifest)) == applied(machine, *TPU)


def test_what_kubectl_says_is_passed_on(machine):
  machine.reply(('kubectl', [5]))
  assert machine.run('gke.sh', 'run', *TPU).returncode == 5


@pytest.mark.parametrize(
  ('extra', 'message'),
  [
    ('--name=My_run', '--name=My_run must be lower-case letters'),
    ('--name=a-', '--name=a- must be lower-case letters'),
    ('--type=h100', '--type=h100 must be a node label'),
    ('--chips=all', '--chips=all must be a whole number'),
    ('--hosts=two', '--hosts=two must be a whole number'),
    ('--workdir=/mnt/c/r', '--workdir=/mnt/c/r must begin with /mnt/b/;'),
    ('--workdir=runs/r', '--workdir=runs/r must begin with /mnt/b/;'),
  ],
)
def test_what_cannot_run_is_refused(extra, message, machine):
  done = machine.run('gke.sh', 'run', *TPU, extra)
  assert done.returncode == 2
  assert done.stderr.startswith(f'error: {message}')
  assert machine.calls == []
