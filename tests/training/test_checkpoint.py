"""Checkpoints: exact to the byte, and right whatever is killed or damaged."""

import dataclasses
import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from flax import nnx
from orbax.checkpoint import v1 as ocp

from flowdistill.training import checkpoint, plain_path
from flowdistill.training.checkpoint import (
  CheckpointError,
  Checkpoints,
  completed_steps,
  restore,
)
from flowdistill.training.orbax_logging import reduce_logging

ONE = np.ones((), np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """A small one of the kind that training has."""

  step: jax.Array
  params: nnx.State
  opt_state: optax.OptState
  emas: dict[str, nnx.State]
  odd: dict[str, jax.Array]


@functools.cache
def make_state(seed: int, width: int = 8) -> State:
  normal = np.random.default_rng(seed).standard_normal

  def make_params() -> nnx.State:
    kernel, bias = normal((3, width), np.float32), normal(width, np.float32)
    return nnx.State({'kernel': nnx.Param(kernel), 'bias': nnx.Param(bias)})

  params = make_params()
  tx = optax.MultiSteps(optax.chain(optax.clip(1.0), optax.adam(1e-3)), 2)
  odd = {
    'half': np.array([1.1, np.nan, -np.inf, -0.0, 1e-40], jnp.bfloat16),
    'bits': np.array([[0, 1], [2**31, 2**32 - 1]], np.uint32),
    'flags': np.array([True, False]),
    'large': normal((64, 64), np.float32),
    'small': np.int8(-7),
    "named/like 'that' [0].value": np.array([np.nan, 1e-42], np.float32),
  }
  emas = {'0.05': make_params(), 'slow': make_params()}
  opt_state = jax.tree.map(
    lambda p: normal(p.shape).astype(p.dtype), tx.init(params)
  )
  state = State(np.uint32(seed), params, opt_state, emas, odd)
  return jax.device_put(state)


def abstract(state):
  return jax.eval_shape(lambda: state)


def assert_identical(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A folder with the states 1 and 2, not to be changed."""
  folder = tmp_path_factory.mktemp('saved')
  with Checkpoints(folder, keep=2) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, make_state(step))
  return folder


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'copied')


@pytest.mark.parametrize('step', [1, 2, None])
def test_a_state_comes_back_to_the_byte(saved, step):
  expected = make_state(step or 2)
  assert_identical(restore(saved, abstract(expected), step), expected)


def test_arrays_get_the_shardings_that_are_asked_for(saved):
  mesh = jax.make_mesh((1,), ('data',))
  sharding = jax.NamedSharding(mesh, jax.P())
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    make_state(0),
  )
  restored = restore(saved, wanted)
  assert all(x.sharding == sharding for x in jax.tree.leaves(restored))


def test_a_part_can_be_read_alone(saved):
  expected = make_state(2)
  part = dataclasses.replace(expected, opt_state=(), emas={}, odd={})
  assert_identical(restore(saved, abstract(part), partial=True), part)
  with pytest.raises(CheckpointError, match='differs is emas.* missing in the'):
    restore(saved, abstract(part))


def test_the_last_ones_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest() is None
    assert checkpoints.steps() == []
    for step in (1, 5, 20, 100):
      checkpoints.save(step, {'x': jnp.float32(step)})
      checkpoints.wait()
      assert checkpoints.latest() == step
    assert checkpoints.steps() == [20, 100]
    one = {'x': jax.ShapeDtypeStruct((), jnp.float32)}
    assert checkpoints.restore(one)['x'] == 100
    assert checkpoints.restore(one, 20)['x'] == 20
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    assert checkpoints.latest() == 100
    checkpoints.save(101, {'x': jnp.float32(101)})
  assert completed_steps(tmp_path) == [101]
  with pytest.raises(ValueError, match='keep = 0 must be at least 1'):
    Checkpoints(tmp_path, keep=0)


NAN = float('nan')


def test_the_best_and_every_fourth_stay_too(tmp_path):
  """A figure is known after its step is saved, or never; others are read."""
  later = {1: 5.0, 2: 1.0, 3: 3.0, 4: NAN, 5: 1.5, 7: 8.0, 9: 0.5, 10: 0.7}
  measured = {}

  def left(*steps):
    best = dict(measured)  # as another process reads it
    with Checkpoints(tmp_path, keep=1, every=4, best=best) as checkpoints:
      for step in steps:
        checkpoints.save(step, {'x': jnp.float32(step)})
        best.update({s: f for s, f in later.items() if s == step})
    measured.update(best)
    return completed_steps(tmp_path)

  assert left(1, 2) == [1, 2]
  assert left(3) == [2, 3]
  assert left(4, 5) == [2, 4, 5]
  assert left(6, 7) == [2, 4, 7]
  assert left(9) == [2, 4, 9]  # its figure came after
  assert left(10) == [4, 9, 10]
  assert left(11) == [4, 9, 11]


def test_without_figures_only_the_last_are_kept(tmp_path):
  with Checkpoints(tmp_path, keep=2, best={}) as checkpoints:
    for step in range(1, 5):
      checkpoints.save(step, {'x': jnp.float32(step)})
  assert completed_steps(tmp_path) == [3, 4]


NAMES = [  # of a folder, all that some library takes for something else
  'lr[1e-3]',
  'a\\b',
  'a*',
  'a{b}?#%20',
  'gs:',
  'two words\nor lines',
  'größe',
  os.fsdecode(b'\xff'),
  '-x',
  '~',
]


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_a_folder_may_have_any_name(name, tmp_path):
  folder, state = tmp_path / name / 'x', {'x': jnp.arange(5)}
  other = tmp_path / 'ab' / 'x'  # a* would find it too
  for place, offset in ((other, 7), (folder, 0)):
    with Checkpoints(place, keep=2) as checkpoints:
      checkpoints.save(1, {'x': jnp.arange(5) + offset})
      checkpoints.save(2, {'x': jnp.arange(5) + offset + 1})
  assert completed_steps(folder) == [1, 2]
  assert_identical(restore(folder, abstract(state), 1), state)
  with pytest.raises(CheckpointError, match='does not fit') as error:
    restore(folder, {'y': jax.ShapeDtypeStruct((), jnp.int32)})
  assert str(folder) in str(error.value)


def test_a_path_that_has_no_other_name_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(plain_path, 'OPEN_FILES', tmp_path / 'none')
  with pytest.raises(OSError, match=r"\[x' must have only letters"):
    Checkpoints(tmp_path / '[x', keep=1)
  Checkpoints(tmp_path / 'x', keep=1).close()


def test_the_first_checkpoint_is_read_back(tmp_path, monkeypatch):
  """From a disk, here from Orbax, that gives back other bytes."""
  folder, load = tmp_path / 'run', ocp.load
  states = {3: {'x': jnp.zeros(())}, 4: {'a': jnp.array(np.nan), 'b': ONE}}
  monkeypatch.setattr(checkpoint, 'AT_ONCE', 1)
  with Checkpoints(folder, keep=2) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(
        ocp, 'load', lambda *a, **k: jax.tree.map(lambda x: -x, load(*a, **k))
      )
      for step, name in ((3, 'x'), (4, 'a')):  # −0 and −nan are other bytes
        message = rf'checkpoint, {folder}/{step}, did .* \({name} has other'
        with pytest.raises(OSError, match=message):
          checkpoints.save(step, states[step])
        assert checkpoints.steps() == []
  with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(4, states[4])
    monkeypatch.setattr(ocp, 'load', None)
    checkpoints.save(5, states[4])  # not read back
  assert completed_steps(folder) == [4, 5]


def files_of(step):
  return sorted(path for path in step.rglob('*') if path.is_file())


def test_a_flipped_bit_is_found_in_any_file(copied):
  rng, step, wanted = random.Random(0), copied / '2', abstract(make_state(2))
  part = dataclasses.replace(wanted, opt_state=(), emas={}, odd={})
  covered = [path for path in files_of(step) if path.parent != step]
  assert len(covered) > 5
  for path in [*covered, step / 'checksums.json']:
    content = path.read_bytes()
    for _ in range(3):
      flipped = bytearray(content)
      flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
      path.write_bytes(flipped)
      for tree, partial in ((wanted, False), (part, True)):
        with pytest.raises(CheckpointError, match=f'{step} cannot be read'):
          restore(copied, tree, partial=partial)
    path.write_bytes(content)
  assert_identical(restore(copied, wanted), make_state(2))


def test_checksums_that_were_written_must_be_there(copied):
  (copied / '2' / 'checksums.json').unlink()
  with pytest.raises(CheckpointError, match=r'2/checksums.json is missing'):
    restore(copied, abstract(make_state(2)))


def test_a_checkpoint_of_before_checksums_is_read(copied, caplog):
  step = copied / '2'
  (step / 'checksums.json').unlink()
  about = json.loads((step / '_CHECKPOINT_METADATA').read_text())
  (step / '_CHECKPOINT_METADATA').write_text(
    json.dumps({**about, 'custom_metadata': {}})
  )
  assert_identical(restore(copied, abstract(make_state(2))), make_state(2))
  assert caplog.records == []


def test_a_step_is_saved_once(copied):
  with Checkpoints(copied, keep=3) as checkpoints:
    checkpoints.save(2, {'x': jnp.ones(())})
  assert_identical(restore(copied, abstract(make_state(2))), make_state(2))


def test_arrays_may_be_donated_right_after_save(tmp_path):
  overwrite = jax.jit(
    lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0
  )
  state = [jnp.full((256, 1024), k, jnp.float32) for k in range(16)]
  wanted = abstract(state)
  with Checkpoints(tmp_path, keep=9) as checkpoints:
    for step in range(3):
      expected = jax.tree.map(np.array, state)
      checkpoints.save(step, state)
      state = jax.block_until_ready(overwrite(state))
      checkpoints.wait()
      assert_identical(checkpoints.restore(wanted), expected)
      state = jax.tree.map(lambda x, step=step: x + step + 2, state)


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


# Orbax leaves coroutines behind when a file cannot be read.
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
  ('pattern', 'size'),
  [
    ('ocdbt.process_0/d/*', 0.5),
    ('ocdbt.process_0/d/*', None),
    ('d/*', 0.5),
    ('manifest.ocdbt', 0),
    ('_METADATA', 0.5),
    ('_METADATA', None),
  ],
)
def test_a_damaged_file_names_the_checkpoint(copied, pattern, size):
  for file in (copied / '2' / 'state').glob(pattern):
    content = file.read_bytes()
    file.unlink()
    if size is not None:
      file.write_bytes(content[: int(size * len(content))])
  message = f'the checkpoint {copied / "2"} cannot be read, a file in it is'
  with pytest.raises(CheckpointError, match=message):
    restore(copied, abstract(make_state(2)))
  # What it says helps.
  shutil.rmtree(copied / '2')
  assert_identical(restore(copied, abstract(make_state(1))), make_state(1))


def test_another_network_is_refused_by_name_and_shape(saved):
  message = (
    rf'the checkpoint {saved / "2"} does not fit .* differs is '
    r'params.bias: float32\[8\] in the checkpoint, float32\[16\] in the'
  )
  with pytest.raises(CheckpointError, match=message):
    restore(saved, abstract(make_state(2, width=16)))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'step': jax.ShapeDtypeStruct((), jnp.int32)},
      r'step: uint32\[\] in the checkpoint, int32\[\] in the config',
    ),
    (
      {'odd': {'new': jax.ShapeDtypeStruct((2, 3), jnp.float32)}},
      r'odd.new: missing in the checkpoint, float32\[2, 3\] in the config',
    ),
    (
      {'emas': {}},
      r'emas.0.05.bias: float32\[8\] in the checkpoint, missing in the',
    ),
  ],
)
def test_another_tree_is_refused(saved, change, message):
  wanted = dataclasses.replace(abstract(make_state(2)), **change)
  with pytest.raises(CheckpointError, match=message):
    restore(saved, wanted)


def test_paths_must_differ(tmp_path):
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    with pytest.raises(ValueError, match='the same path'):
      checkpoints.save(1, {'a': {'b': jnp.ones(1)}, 'a.b': jnp.ones(1)})


def test_what_is_not_there(saved, tmp_path):
  assert completed_steps(tmp_path / 'none') == []
  with pytest.raises(
    FileNotFoundError, match='no complete checkpoint in .*none'
  ):
    restore(tmp_path / 'none', abstract(make_state(1)))
  assert not (tmp_path / 'none').exists()
  with pytest.raises(FileNotFoundError, match=r'step 3 .* only of \[1, 2\]'):
    restore(saved, abstract(make_state(1)), 3)


def test_orbax_is_quiet_and_we_are_not(tmp_path, caplog):
  reduce_logging()
  caplog.set_level('INFO', logger='absl')
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, {'x': jnp.ones(2)})
  assert caplog.records == []
  logging.info('ours')
  assert [record.message for record in caplog.records] == ['ours']
