"""Checkpoints that were damaged, or are of something else."""

import dataclasses
import json
import random
import shutil

import jax
import jax.numpy as jnp
import pytest
from training.states import (
  abstract,
  assert_identical,
  make_state,
)

from flowdistill.training.checkpoint import (
  CheckpointError,
  completed_steps,
  restore,
)


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


def test_what_is_not_there(saved, tmp_path):
  assert completed_steps(tmp_path / 'none') == []
  with pytest.raises(
    FileNotFoundError, match='no complete checkpoint in .*none'
  ):
    restore(tmp_path / 'none', abstract(make_state(1)))
  assert not (tmp_path / 'none').exists()
  with pytest.raises(FileNotFoundError, match=r'step 3 .* only of \[1, 2\]'):
    restore(saved, abstract(make_state(1)), 3)
