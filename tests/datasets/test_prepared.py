"""Where a prepared data set is looked for, and what is said if none is."""

import re
import subprocess
import sys
from importlib import util

import numpy as np
import pytest
import tiny_tfds

from flowdistill.datasets.prepared import open_prepared, version_folder
from flowdistill.datasets.records import tfds
from flowdistill.flow.spec import DataSpec


def touch(root, *names):
  for name in names:
    (root / name).mkdir(parents=True)
    (root / name / 'features.json').touch()


def test_the_newest_version_is_found_unless_one_is_named(tmp_path):
  touch(tmp_path, 'a/1.9.0', 'a/1.10.0', 'a/1.2.0', 'a/incomplete.X_2.0.0')
  assert version_folder('a', tmp_path) == tmp_path / 'a/1.10.0'
  assert version_folder('a:1.2.0', tmp_path) == tmp_path / 'a/1.2.0'
  with pytest.raises(ValueError, match="builder = 'a:3.0.0' is not prepared"):
    version_folder('a:3.0.0', tmp_path)


def test_a_config_is_named_if_there_are_several(tmp_path):
  touch(tmp_path, 'a/32x32/1.0.0')
  assert version_folder('a', tmp_path) == tmp_path / 'a/32x32/1.0.0'
  touch(tmp_path, 'a/64x64/1.0.0', 'a/64x64/2.0.0')
  assert version_folder('a/64x64', tmp_path) == tmp_path / 'a/64x64/2.0.0'
  assert version_folder('a/64x64:1.0.0', tmp_path) == tmp_path / 'a/64x64/1.0.0'
  with pytest.raises(ValueError, match="'a' must be one of a/32x32, a/64x64"):
    version_folder('a', tmp_path)


def test_the_folder_is_that_of_tfds(data_dir, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  assert len(tfds(builder='tiny_shapes', size=4)) == tiny_tfds.COUNTS['train']


def said(builder, data_dir):
  with pytest.raises(ValueError, match='This prepares it') as error:
    open_prepared(builder, str(data_dir))
  return str(error.value)


def code(message):
  """The command in a message, as the code that it runs."""
  found = re.search(r'python -c "(.*)"$', message)
  assert found, message
  return found[1]


def test_what_is_not_prepared_says_how_it_is(tmp_path):
  message = said('tiny_shapes', tmp_path)
  assert message.startswith(
    f"builder = 'tiny_shapes' is not prepared in {tmp_path}"
  )
  exec(code(message), {})
  assert len(tfds(builder='tiny_shapes', data_dir=str(tmp_path), size=4)) == 20


def test_another_format_says_how_to_prepare_it(tmp_path):
  made = tiny_tfds.TinyShapes(data_dir=str(tmp_path), file_format='parquet')
  made.download_and_prepare()
  message = said('tiny_shapes', tmp_path)
  assert 'has no index' in message
  exec(code(message), {})
  other = str(tmp_path / 'array_record')
  assert f'so use data_dir = {other!r}' in message
  assert len(tfds(builder='tiny_shapes', data_dir=other, size=4)) == 20


@pytest.mark.slow
@pytest.mark.skipif(
  not util.find_spec('tensorflow'), reason='needs the extra tfds'
)
def test_the_command_prepares_arrays_with_tensorflow(tmp_path):
  """In a process of its own, where it also encodes the pictures."""
  run(f'import tiny_tfds; {code(said("drawn", tmp_path))}')
  source = tfds(builder='drawn', data_dir=str(tmp_path))
  assert source.spec == DataSpec.labelled((6, 6, 1), 3, '012')
  batch = source[np.arange(20)]
  numbers = (batch['x0'][:, 0, 0, 0] + 1) * 127.5
  np.testing.assert_allclose(np.sort(numbers), np.arange(20), atol=1e-4)
  np.testing.assert_array_equal(batch['label'], np.round(numbers) % 3)
  label = source.conditions(np.arange(20))['label']
  np.testing.assert_array_equal(batch['label'], label)


def run(program):
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
