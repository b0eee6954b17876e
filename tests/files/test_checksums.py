"""Checksums of a folder: each file is read by one host, its size by all."""

import pytest

from flowdistill.files.checksums import (
  CHECKSUMS,
  check_checksums,
  write_checksums,
)
from flowdistill.files.json_reader import DamagedFileError


@pytest.fixture
def folder(tmp_path):
  for name in ('a', 'deep/b', 'deep/c'):
    path = tmp_path / 'part' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
  write_checksums(tmp_path, 'part')
  return tmp_path


def test_what_is_there_is_right(folder):
  (folder / 'beside').touch()
  for share in ((0, 1), (0, 2), (1, 2)):
    check_checksums(folder, share)


def test_another_content_is_found_by_the_host_of_the_file(folder):
  (folder / 'part/deep/b').write_text('deep/x')
  check_checksums(folder, (0, 2))
  for share in ((0, 1), (1, 2)):
    with pytest.raises(DamagedFileError, match='part/deep/b is damaged'):
      check_checksums(folder, share)


@pytest.mark.parametrize('share', [(0, 1), (0, 2), (1, 2)])
def test_another_size_is_found_by_all(share, folder):
  (folder / 'part/a').write_text('')
  with pytest.raises(DamagedFileError, match='part/a must have the 1 bytes of'):
    check_checksums(folder, share)
  (folder / 'part/a').unlink()
  with pytest.raises(FileNotFoundError, match='part/a'):
    check_checksums(folder, share)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{}', 'must list the files of this folder, and lists none'),
    ('{"a": 5}', "'a' must be a list, and is an integer"),
    ('{"a": [5]}', "must have a size and a SHA-256 for 'a'"),
  ],
)
def test_a_list_that_is_none_is_named(text, message, folder):
  (folder / CHECKSUMS).write_text(text)
  with pytest.raises(DamagedFileError, match=message):
    check_checksums(folder, (0, 1))
