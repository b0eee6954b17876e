"""Real processes on one machine, which are the hosts of one run."""

import os
import socket
import subprocess
import sys


def printed(devices, *command):
  """What a Python process with so many simulated devices prints."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  done = subprocess.run(
    [sys.executable, *map(str, command)],
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': flags,
      'PYTHONPATH': os.pathsep.join(sys.path),
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def start(workdir, source, devices, *more):
  """Starts the command with so many simulated devices."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  command = [sys.executable, '-m', 'flowdistill.main', '--config', str(source)]
  return subprocess.Popen(
    [*command, '--workdir', str(workdir), *more],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def start_all(workdir, source, *more, count=2, devices=1):
  """Starts it on so many hosts, which meet over loopback."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  said = ['--distributed', f'--coordinator={address}']
  said.append(f'--num_processes={count}')
  return [
    start(workdir, source, devices, *said, f'--process_id={i}', *more)
    for i in range(count)
  ]


def end_all(processes, seconds=120):
  """Waits for them; returns a list of (exit code, stdout, stderr)."""
  printed = [process.communicate(timeout=seconds) for process in processes]
  codes = [process.returncode for process in processes]
  return [(c, *text) for c, text in zip(codes, printed, strict=True)]
