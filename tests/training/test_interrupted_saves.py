"""Saves that fail, wait, or are killed: what was there before stays."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from orbax.checkpoint import v1 as ocp
from training.states import abstract, assert_identical, make_state

from flowdistill.training.checkpoint import (
  Checkpoints,
  completed_steps,
  restore,
)


# Orbax leaves coroutines behind when a file cannot be written.
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_is_told_and_costs_only_that_save(tmp_path):
  noise = np.random.default_rng(0).standard_normal(2**19, np.float32)
  state, wanted = {'x': jnp.asarray(noise)}, abstract({'x': noise})
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    checkpoints.save(1, state)
  try:
    # Of Orbax's writers the first to end tells: one may find its folder gone.
    why = '(File too large|Failed to rename)'
    message = rf'{tmp_path}/2 could not be saved: .*{why}.*untouched'
    with pytest.raises(OSError, match=message):
      with Checkpoints(tmp_path, keep=2) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
        checkpoints.save(2, state)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.steps() == [1]
    assert_identical(checkpoints.restore(wanted), state)
    checkpoints.save(2, state)
  assert_identical(restore(tmp_path, wanted, 2), state)


class Waits:
  """A save that waits for the other hosts, as Orbax's does."""

  def result(self, timeout):
    time.sleep(timeout)
    raise TimeoutError


def patch_save(monkeypatch, save):
  """Makes Orbax save with another function."""
  monkeypatch.setattr(
    ocp.training.Checkpointer, 'save_async', lambda *_, **__: save()
  )


GONE = jax.errors.JaxRuntimeError('gone')
WRAPPED = TimeoutError('Timed out while waiting for a_commit_complete barrier.')
WRAPPED.__cause__ = GONE


@pytest.mark.parametrize(
  ('error', 'kind', 'message'),
  [
    (OSError('full\nand more'), OSError, '/7 could not be saved: full. Earl'),
    # Another host is lost, and is to be named.
    (GONE, RuntimeError, '^gone$'),
    (WRAPPED, RuntimeError, '^Timed out while .* barrier.$'),
  ],
)
def test_a_save_that_failed_does_not_wait_for_the_other_hosts(
  error, kind, message, tmp_path, monkeypatch
):
  """Orbax has only logged the error."""

  def fail():
    record = logging.get_absl_logger().makeRecord(
      *('absl', 40, '/of/orbax/future.py', 1, 'failed', ()),
      exc_info=(type(error), error, None),
    )
    logging.get_absl_logger().handle(record)
    return Waits()

  with pytest.raises(kind, match=message):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(6, {'x': jnp.ones(1)})
      patch_save(monkeypatch, fail)
      checkpoints.save(7, {'x': jnp.ones(1)})
      started = time.monotonic()
      checkpoints.wait()
  assert time.monotonic() - started < 2


def test_a_save_that_cannot_begin_names_the_checkpoint(tmp_path, monkeypatch):
  def refuse():
    raise OSError('full')

  patch_save(monkeypatch, refuse)
  with pytest.raises(OSError, match='/3 could not be saved: full. Earlier'):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(3, {'x': jnp.ones(1)})


def test_a_slow_save_is_waited_for(tmp_path, monkeypatch):
  class Slow(Waits):
    left = 3

    def result(self, timeout):
      self.left -= 1
      return True if not self.left else super().result(timeout)

  slow = Slow()
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, {'x': jnp.ones(1)})
    patch_save(monkeypatch, lambda: slow)
    checkpoints.save(2, {'x': jnp.ones(1)})
    checkpoints.wait()
    assert not slow.left


BYTES = 2**25
TEMPORARY = '.orbax-checkpoint-tmp'
# Saves until it has seen a save under way, and is then killed.
KILLED_WHILE_SAVING = f"""
import os, pathlib, signal, sys, time
import jax, numpy as np
from flowdistill.training.checkpoint import Checkpoints

folder, share = pathlib.Path(sys.argv[1]), float(sys.argv[2])
with Checkpoints(folder, keep=1) as checkpoints:
  for step in range(1, 100):
    bits = np.random.default_rng(step).bytes({BYTES})  # does not compress
    state = {{'x': jax.device_put(np.frombuffer(bits, np.uint32))}}
    temporary = folder / f'{{step}}{TEMPORARY}'
    began = time.monotonic()
    checkpoints.save(step, state)
    while step > 1 and not (folder / str(step)).exists():
      if temporary.exists():
        time.sleep(share * duration)
        if temporary.exists():
          os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.wait()
    duration = time.monotonic() - began
    share = 0.9 * share
"""


def kill_while_saving(folder, share):
  """The last complete step, None if the save ended just before the kill."""
  done = subprocess.run(
    [sys.executable, '-c', KILLED_WHILE_SAVING, str(folder), str(share)],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    timeout=120,
  )
  assert done.returncode == -signal.SIGKILL
  latest = max(completed_steps(folder))
  half = folder / f'{latest + 1}{TEMPORARY}'
  return latest if half.exists() else None


@pytest.mark.parametrize('share', [0.0, 0.5])
def test_sigkill_during_a_save(tmp_path, share):
  """`share` is how far into the save the process is killed."""
  tries = (tmp_path / str(k) for k in range(10))
  found = ((f, kill_while_saving(f, share)) for f in tries)
  folder, latest = next((f, step) for f, step in found if step is not None)
  left = {path.name for path in folder.iterdir()}
  assert left == {str(latest), f'{latest + 1}{TEMPORARY}'}
  wanted = {'x': jax.ShapeDtypeStruct((BYTES // 4,), jnp.uint32)}
  with Checkpoints(folder, keep=2) as checkpoints:
    assert checkpoints.latest() == latest
    bits = np.random.default_rng(latest).bytes(BYTES)
    assert np.asarray(checkpoints.restore(wanted)['x']).tobytes() == bits
    for step in (latest + 1, latest + 2):
      checkpoints.save(step, {'x': jnp.zeros(BYTES // 4, jnp.uint32)})
  names = {path.name for path in folder.iterdir()}
  assert names == {str(latest + 1), str(latest + 2)}


def test_leftovers_are_ignored_by_readers_and_removed_by_the_writer(copied):
  half = copied / '3.orbax-checkpoint-tmp'
  shutil.copytree(copied / '2', half)
  for file in [path for path in half.rglob('*') if path.is_file()][::2]:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  assert completed_steps(copied) == [1, 2]
  restore(copied, abstract(make_state(2)))
  assert half.exists()
  with Checkpoints(copied, keep=2) as checkpoints:
    assert checkpoints.latest() == 2
    checkpoints.save(3, make_state(3))
  assert not half.exists()
  assert_identical(restore(copied, abstract(make_state(3))), make_state(3))
