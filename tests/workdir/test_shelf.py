"""Shelf: arrays by what they are of, in files."""

import numpy as np
import pytest

from flowdistill.workdir import shelf as shelf_module
from flowdistill.workdir.shelf import Shelf

ABOUT = {'seed': 1, 'options': {'gamma': 0.5}}
ARRAYS = {'x': np.arange(6.0).reshape(2, 3), 'n': np.int32([7])}


@pytest.fixture
def shelf(tmp_path):
  return Shelf(tmp_path / 'deep' / 'blocks')


def test_what_was_put_is_found_by_another_process(shelf):
  assert shelf.get(ABOUT) is None
  shelf.put(ABOUT, ARRAYS)
  found = Shelf(shelf.folder).get({**ABOUT})
  assert found is not None
  assert [*found] == [*sorted(ARRAYS)]
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
  'other', [{'seed': 2}, {'options': {'gamma': 0.25}}, {'more': None}]
)
def test_arrays_of_something_else_are_not_found(shelf, other):
  shelf.put(ABOUT, ARRAYS)
  assert shelf.get({**ABOUT, **other}) is None


@pytest.mark.parametrize('size', [0, 10, 300])
def test_a_damaged_file_is_not_there_and_is_replaced(shelf, size):
  shelf.put(ABOUT, ARRAYS)
  (file,) = shelf.folder.iterdir()
  file.write_bytes(file.read_bytes()[:size])
  assert shelf.get(ABOUT) is None
  shelf.put(ABOUT, ARRAYS)
  assert shelf.get(ABOUT) is not None


def test_a_file_under_the_name_of_another_is_not_taken(shelf):
  shelf.put(ABOUT, ARRAYS)
  (file,) = shelf.folder.iterdir()
  shelf.put({'seed': 2}, ARRAYS)
  (other,) = {*shelf.folder.iterdir()} - {file}
  other.replace(file)
  assert shelf.get(ABOUT) is None


def test_the_parts_of_a_whole_are_dropped_together(shelf):
  for first in (0, 1024):
    shelf.put({'of': ABOUT, 'first': first}, ARRAYS)
  shelf.put({'of': {'seed': 2}, 'first': 0}, ARRAYS)
  Shelf(shelf.folder).drop_of(ABOUT)
  assert len([*shelf.folder.iterdir()]) == 1
  assert shelf.get({'of': {'seed': 2}, 'first': 0}) is not None


def test_it_clears_what_it_used_and_leaves_what_another_is_at(shelf):
  other = Shelf(shelf.folder)
  shelf.put(ABOUT, ARRAYS)
  other.put({'seed': 9}, ARRAYS)
  shelf.clear()
  assert other.get({'seed': 9}) is not None
  other.clear()
  assert not shelf.folder.exists()
  shelf.clear()  # once more is no error


def test_it_is_put_though_another_removes_the_empty_folder(shelf, monkeypatch):
  """Another evaluation may clear its own blocks at this moment."""
  plain = shelf_module.replacing

  def removed_first(path):
    monkeypatch.setattr(shelf_module, 'replacing', plain)
    Shelf(shelf.folder).clear()
    return plain(path)

  monkeypatch.setattr(shelf_module, 'replacing', removed_first)
  shelf.put(ABOUT, ARRAYS)
  assert shelf.get(ABOUT) is not None


def test_a_file_that_another_is_writing_is_not_cleared(shelf):
  shelf.put(ABOUT, ARRAYS)
  writing = shelf.folder / f'.{16 * "0"}.tmp'
  writing.write_bytes(b'half')
  shelf.clear()
  assert [*shelf.folder.iterdir()] == [writing]
