"""Folders with links, pipes and what cannot be read."""

import os
import time

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import tree
from flowdistill.datasets.folder import folder
from flowdistill.files.regular import open_regular

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)


def write(path):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(PIXELS).save(path)


@pytest.fixture
def root(tmp_path):
  """Two classes of two pictures each, and a folder beside them."""
  for name in ('a/0.png', 'a/1.png', 'b/2.png', 'b/deep/3.png'):
    write(tmp_path / 'root' / name)
  write(tmp_path / 'beside' / 'sub' / '4.png')
  return tmp_path / 'root'


EVERY = ['a/0.png', 'a/1.png', 'b/2.png', 'b/deep/3.png']


def found(root):
  return tree.Tree(root).catalogue


@pytest.mark.parametrize(
  'links',
  [
    {'self': '.'},
    {'self': '.', 'again': '.'},
    {'a/up': '..', 'b/deep/top': '../..'},
    {'a/x': '../b', 'b/y': '../a'},
    {'a/x': '../b/deep'},
    {'out': '..'},
    {'out': '/'},
    {'first': 'second', 'second': 'a'},
    {'a/absolute': '{root}'},
  ],
)
def test_each_picture_is_listed_once_whatever_links_there_are(root, links):
  for name, target in links.items():
    os.symlink(target.format(root=root), root / name)
  catalogue = found(root)
  assert catalogue.names == EVERY
  assert sorted(catalogue.twins) == sorted(links)
  for name in links:
    assert repr(name) in catalogue.summary()


def test_a_link_to_elsewhere_is_followed_once(root):
  os.symlink('../beside/sub', root / 'c')
  os.symlink('../beside', root / 'd')  # in which sub is listed already
  os.symlink('../root', root.parent / 'beside' / 'back')
  catalogue = found(root)
  assert catalogue.names == [*EVERY, 'c/4.png']
  assert sorted(catalogue.twins) == ['d/back', 'd/sub']


def test_a_link_to_a_picture_is_a_picture_that_is_counted(root):
  os.symlink('../b/2.png', root / 'a' / '5.png')
  catalogue = found(root)
  assert 'a/5.png' in catalogue.names
  assert catalogue.summary() == '5 pictures of 5 files, 1 of them by links'


def test_links_in_a_circle_and_to_nothing_are_counted(root):
  os.symlink('two.png', root / 'one.png')
  os.symlink('one.png', root / 'two.png')
  os.symlink('nothing', root / 'three.png')
  catalogue = found(root)
  assert catalogue.names == EVERY
  assert catalogue.left == {'link in a circle': 2, 'link to nothing': 1}


def test_a_class_that_is_another_class_is_refused(root):
  os.symlink('a', root / 'c')
  with pytest.raises(ValueError, match="class folder 'c' is a link to 'a'"):
    folder(path=str(root), by_class=True)
  assert len(folder(path=str(root))) == 4


def test_a_loop_is_no_class(root):
  os.symlink('.', root / '0')
  assert folder(path=str(root), by_class=True).spec.classes == ('a', 'b')


@pytest.mark.parametrize('name', ['', 'b', 'b/deep'])
def test_a_folder_that_cannot_be_read_is_named(root, name, monkeypatch):
  """By hand, as the superuser may read all."""
  scan = os.scandir

  def refused(path):
    if os.fspath(path) == os.fspath(root / name):
      raise PermissionError(13, 'Permission denied', path)
    return scan(path)

  monkeypatch.setattr(os, 'scandir', refused)
  message = f"cannot be read, '{name or '.'}': Permission denied"
  with pytest.raises(ValueError, match=message):
    folder(path=str(root))


def test_a_class_whose_files_cannot_be_read_does_not_vanish(root, monkeypatch):
  """Those without an ending, of which only the content can tell."""
  write(root / 'a1' / '5.png')
  (root / 'a1' / '5.png').rename(root / 'a1' / '5')
  regular = tree.open_regular

  def refused(path):
    if path.name == '5':
      raise PermissionError(13, 'Permission denied', str(path))
    return regular(path)

  monkeypatch.setattr(tree, 'open_regular', refused)
  with pytest.raises(ValueError, match="'a1/5' cannot be read, and nothing"):
    folder(path=str(root), by_class=True)
  write(root / 'a1' / '6.png')
  source = folder(path=str(root), by_class=True)
  assert source.spec.classes == ('a', 'a1', 'b')
  assert source.encoded.files.catalogue.left == {'unreadable': 1}


def test_hidden_and_system_folders_are_not_entered(root, monkeypatch):
  for name in ('.git', '__MACOSX', 'lost+found'):
    write(root / name / 'x.png')
  (root / '.DS_Store').touch()
  catalogue = found(root)
  assert catalogue.names == EVERY
  assert catalogue.left == {'hidden': 4}


def test_pipes_and_devices_are_left_out_and_never_waited_for(root):
  os.mkfifo(root / 'pipe.png')
  os.symlink('/dev/zero', root / 'endless.png')
  catalogue = found(root)
  assert catalogue.names == EVERY
  assert catalogue.left == {'not a regular file': 2}


@pytest.mark.parametrize('kind', ['pipe', 'device'])
def test_a_picture_that_becomes_a_pipe_is_a_broken_file(root, kind):
  source = folder(path=str(root), size=4, max_broken=0.5)
  (root / 'a/0.png').unlink()
  if kind == 'pipe':
    os.mkfifo(root / 'a/0.png')
  else:
    os.symlink('/dev/zero', root / 'a/0.png')
  start = time.monotonic()
  source[np.arange(4)]
  assert time.monotonic() - start < 5
  assert source.broken == {'a/0.png': 'it is not a regular file'}


@pytest.mark.parametrize('name', ['pipe', 'pipe.zip', 'pipe.tar'])
def test_a_path_that_is_a_pipe_is_refused(tmp_path, name):
  os.mkfifo(tmp_path / name)
  with pytest.raises(ValueError, match=f'{name}.*is not a regular file'):
    folder(path=str(tmp_path / name))


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('/dev/zero', 'is not a regular file'),
    ('a\0b', 'cannot be read: embedded null'),
    ('x' * 300, 'cannot be read: .*too long'),
  ],
)
def test_strange_paths_are_refused(path, message):
  with pytest.raises(ValueError, match=message):
    folder(path=path)


def latin(root, count):
  """Pictures whose names are not UTF-8."""
  root = os.fsencode(root)
  os.makedirs(root)
  for k in range(count):
    with open(root + b'/caf\xe9%d.png' % k, 'wb') as file:
      PIL.Image.fromarray(PIXELS).save(file, 'PNG')


@pytest.mark.parametrize('split', ['all', 'train', 'validation'])
def test_names_that_are_not_utf_8_work_in_every_split(tmp_path, split):
  latin(tmp_path / 'latin', 20)
  source = folder(path=str(tmp_path / 'latin'), split=split, size=4)
  assert len(source) == {'all': 20, 'train': 19, 'validation': 1}[split]
  assert source[0]['x0'].shape == (4, 4, 3)


def test_a_class_whose_name_is_not_utf_8_is_refused(tmp_path):
  latin(tmp_path / os.fsdecode(b'\xe9'), 1)
  with pytest.raises(ValueError, match=r"class folder '\\udce9' must be UTF-8"):
    folder(path=str(tmp_path), by_class=True)


def test_a_regular_file_is_opened(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  with open_regular(tmp_path / 'a') as file:
    assert file.read() == b'abc'
