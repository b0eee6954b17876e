"""Folders and archives of pictures, whole and broken."""

import io
import os
import pathlib
import shutil
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import files
from flowdistill.datasets.folder import folder
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.pipeline import make_batches
from flowdistill.flow.spec import DataSpec

SIZE = 4


def pixels(k):
  return np.random.default_rng(k).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def encoded(k):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels(k)).save(file, 'PNG')
  return file.getvalue()


def write(path, k):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(pixels(k)).save(path)


@pytest.fixture
def pictures(tmp_path):
  """12 pictures in two classes, one of them in a folder of its own."""
  path = tmp_path / 'pictures'
  for k in range(12):
    deep = 'deep/' if k == 5 else ''
    write(path / f'{"ab"[k % 2]}/{deep}{k:02d}.PNG', k)
  (path / 'a' / 'notes.txt').write_text('no picture')
  write(path / 'a' / '.hidden.png', 99)
  return path


def opened(path, **options):
  return folder(path=str(path), size=SIZE, **options)


def names(path, **options):
  return opened(path, **options).encoded.names


def number(name):
  return int(pathlib.PurePath(name).stem)


def test_every_picture_is_found_in_the_order_of_names(pictures):
  source = opened(pictures)
  assert source.encoded.names == sorted(source.encoded.names)
  assert sorted(map(number, source.encoded.names)) == list(range(12))
  assert 'b/deep/05.PNG' in source.encoded.names
  assert source.spec == DataSpec((SIZE, SIZE, 3))
  batch = source[np.arange(12)]
  assert set(batch) == {'x0'}
  for name, x in zip(source.encoded.names, batch['x0'], strict=True):
    np.testing.assert_array_equal(x, to_unit(pixels(number(name))))
  np.testing.assert_array_equal(source[3]['x0'], batch['x0'][3])


def test_in_grey(pictures):
  source = opened(pictures, channels=1)
  assert source.spec.shape == (SIZE, SIZE, 1)
  for name, x in zip(
    source.encoded.names, source[np.arange(12)]['x0'], strict=True
  ):
    grey = pixels(number(name)) @ [0.299, 0.587, 0.114]
    assert np.abs(x[..., 0] - to_unit(grey)).max() < 1.5 / 127.5


def test_classes_are_the_first_folders(pictures):
  source = opened(pictures, by_class=True)
  assert source.spec == DataSpec.labelled((SIZE, SIZE, 3), 2, 'ab')
  batch = source[np.arange(12)]
  label = source.conditions(np.arange(12))['label']
  np.testing.assert_array_equal(batch['label'], label)
  assert batch['label'].dtype == np.int32
  for name, label in zip(source.encoded.names, batch['label'], strict=True):
    assert label == number(name) % 2
  write(pictures / 'loose.png', 3)
  with pytest.raises(ValueError, match="as 'loose.png' is not in a folder"):
    opened(pictures, by_class=True)


def archived(folder, path):
  """Writes all files of a folder to a .zip or .tar."""
  files = [p for p in folder.rglob('*') if p.is_file()]
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w') as archive:
      for file in files:
        archive.write(file, file.relative_to(folder))
  else:
    with tarfile.open(path, 'w') as archive:
      for file in files:
        archive.add(file, file.relative_to(folder).as_posix())
  return path


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_an_archive_is_its_folder(pictures, tmp_path, kind):
  path = archived(pictures, tmp_path / f'all.{kind}')
  before = set(tmp_path.rglob('*'))
  one, other = opened(pictures, by_class=True), opened(path, by_class=True)
  assert one.encoded.names == other.encoded.names
  for name, array in one[np.arange(12)].items():
    np.testing.assert_array_equal(array, other[np.arange(12)][name])
  assert set(tmp_path.rglob('*')) == before  # nothing was unpacked


@pytest.mark.parametrize('how', ['damaged', 'encrypted'])
def test_a_broken_member_of_an_archive_is_left_out(pictures, tmp_path, how):
  path = tmp_path / 'all.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    for file in sorted(pictures.rglob('*.PNG')):
      archive.write(file, file.relative_to(pictures))
  data = bytearray(path.read_bytes())
  if how == 'damaged':
    data[data.index(b'IDAT') + 9] ^= 255  # of the first; its sum is wrong
  else:
    for header, flag in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
      data[data.index(header) + flag] |= 1
  path.write_bytes(data)
  source = opened(path, max_broken=0.1)
  x0 = source[np.arange(12)]['x0']
  np.testing.assert_array_equal(x0[0], x0[1])
  assert list(source.broken) == [source.encoded.names[0]]


MANY = 2**25  # bytes that a bomb becomes, or says so
STORED, DEFLATED, BZIP2 = 0, 8, 12
HEADERS = ((b'PK\x03\x04', 22), (b'PK\x01\x02', 24))  # of zip, and the size


def zipped(path, packing, size, claimed=None):
  """A zip of twelve good pictures, and a bomb before them."""
  with zipfile.ZipFile(path, 'w', packing, compresslevel=9) as archive:
    with archive.open('a/00.png', 'w') as file:
      file.write(bytes(size))
    for k in range(12):
      archive.writestr(f'b/{k:02d}.png', encoded(k), STORED)
  if claimed is not None:
    data = bytearray(path.read_bytes())
    for header, offset in HEADERS:
      place = data.index(header) + offset
      data[place : place + 4] = struct.pack('<I', claimed)
    path.write_bytes(data)
  return path


def tarred(path, size):
  """A tar that says that its last picture has `size` bytes: a hole."""
  with tarfile.open(path, 'w') as archive:
    for k in range(12):
      found = tarfile.TarInfo(f'b/{k:02d}.png')
      found.size = len(data := encoded(k))
      archive.addfile(found, io.BytesIO(data))
    last = tarfile.TarInfo('c/00.png')
    last.size = size
    archive.addfile(last)
  os.truncate(path, 2 * size)
  return path


def sparse(path, size):
  for k in range(12):
    write(path / f'b/{k:02d}.png', k)
  (path / 'a').mkdir()
  (path / 'a/00.png').touch()
  os.truncate(path / 'a/00.png', size)
  return path


BOMBS = {
  'zip that says so': lambda p: zipped(p / 'a.zip', DEFLATED, MANY),
  'zip that lies': lambda p: zipped(p / 'a.zip', DEFLATED, MANY, 1000),
  'zip that exaggerates': lambda p: zipped(p / 'a.zip', STORED, 100, MANY),
  'bzip2': lambda p: zipped(p / 'a.zip', BZIP2, MANY, 1000),
  'tar': lambda p: tarred(p / 'a.tar', MANY),
  'folder': lambda p: sparse(p / 'pictures', MANY),
}


@pytest.mark.parametrize('kind', BOMBS)
def test_a_bomb_is_a_broken_file_and_never_in_memory(
  tmp_path, kind, monkeypatch
):
  monkeypatch.setattr(files, 'LARGEST', 2**20)
  source = opened(BOMBS[kind](tmp_path), max_broken=0.1)
  tracemalloc.start()
  try:
    found = source[np.arange(13)]['x0']
    assert tracemalloc.get_traced_memory()[1] < 2**22
  finally:
    tracemalloc.stop()
  (bomb,) = source.broken
  assert bomb in ('a/00.png', 'c/00.png')
  assert len(np.unique(found.reshape(13, -1), axis=0)) == 12


def test_splits_share_out_the_pictures(pictures):
  every = names(pictures)
  train, held = (
    names(pictures, split=split, validation=0.4)
    for split in ('train', 'validation')
  )
  assert sorted(train + held) == every
  assert len(held) > 0
  (pictures / train[0]).unlink()  # and nothing else moves
  again = names(pictures, split='validation', validation=0.4)
  assert again == held


def test_a_list_holds_out_what_it_names(pictures, tmp_path):
  listed = tmp_path / 'held.txt'
  listed.write_text('a/02.PNG\n\nb/deep/05.PNG\n')
  held = opened(
    pictures, split='validation', held_out=str(listed)
  ).encoded.names
  assert held == ['a/02.PNG', 'b/deep/05.PNG']
  train = names(pictures, split='train', held_out=str(listed))
  assert sorted(train + held) == names(pictures)
  assert len(opened(pictures, held_out=str(listed))) == 12
  listed.write_text('a/77.PNG\n')
  with pytest.raises(ValueError, match="no example is 'a/77.PNG'"):
    opened(pictures, held_out=str(listed))


def test_classes_are_the_same_in_every_split(pictures):
  for k in (1, 3, 7, 9, 11):
    (pictures / f'b/{k:02d}.PNG').unlink()
  listed = pictures / 'held.txt'
  listed.write_text('b/deep/05.PNG\n')
  held = opened(
    pictures, by_class=True, split='validation', held_out=str(listed)
  )
  assert held.spec.classes == ('a', 'b')
  assert held.conditions(np.arange(1))['label'].tolist() == [1]


@pytest.fixture
def walks(monkeypatch):
  """The folders that are listed and the archives that are opened, in order."""
  seen = []
  for module, name in (
    (os, 'scandir'),
    (zipfile, 'ZipFile'),
    (tarfile, 'open'),
  ):
    whole = getattr(module, name)

    def counted(*args, whole=whole, **options):
      at = args[0] if args else options['fileobj'].file.name
      if not isinstance(at, int):  # by which rmtree goes
        seen.append(pathlib.Path(at))
      return whole(*args, **options)

    monkeypatch.setattr(module, name, counted)
  return seen


@pytest.mark.parametrize('kind', ['folder', 'zip', 'tar'])
def test_all_splits_and_reads_of_a_path_list_it_once(
  pictures, tmp_path, kind, walks
):
  path = pictures
  if kind != 'folder':
    path = archived(pictures, tmp_path / f'all.{kind}')
  folders = [p for p in path.rglob('*') if p.is_dir()]
  walks.clear()
  train, held = (
    opened(path, split=split, validation=0.4, by_class=True)
    for split in ('train', 'validation')
  )
  for source in (train, held, train):
    source[np.arange(len(source))]
    source.conditions(np.arange(len(source)))
  assert sorted(walks) == sorted([path, *folders])


def test_a_folder_that_changes_is_listed_again(pictures, walks):
  assert len(opened(pictures)) == 12
  (pictures / 'b/deep/05.PNG').unlink()
  os.utime(pictures / 'b/deep', ns=(0, 0))  # though it was in the same instant
  assert len(opened(pictures)) == 11
  assert walks.count(pictures) == walks.count(pictures / 'b/deep') == 2
  shutil.rmtree(pictures / 'b')
  assert len(opened(pictures)) == 6


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_an_archive_that_changes_is_listed_again(pictures, tmp_path, kind):
  path = archived(pictures, tmp_path / f'all.{kind}')
  assert len(opened(path)) == 12
  shutil.rmtree(pictures / 'b')
  archived(pictures, path)
  assert len(opened(path)) == 6


BREAK = {
  'truncated': lambda path: path.write_bytes(path.read_bytes()[:60]),
  'empty': lambda path: path.write_bytes(b''),
  'text': lambda path: path.write_text('This is no picture.'),
  'gone': lambda path: path.unlink(),
}


@pytest.mark.parametrize('how', BREAK)
def test_a_broken_file_is_named_once_and_the_next_takes_its_place(
  pictures, how, caplog
):
  source = opened(pictures, by_class=True, max_broken=0.1)
  whole = source[np.arange(12)]
  broken = opened(pictures, by_class=True, max_broken=0.1)
  BREAK[how](pictures / broken.encoded.names[4])
  with caplog.at_level('WARNING', logger='absl'):
    for _ in range(3):
      found = broken[np.arange(12)]
  place = np.where(np.arange(12) == 4, 5, np.arange(12))
  for name, array in found.items():
    np.testing.assert_array_equal(array, whole[name][place])
  said = [r.getMessage() for r in caplog.records]
  assert len([text for text in said if broken.encoded.names[4] in text]) == 1
  assert list(broken.broken) == [broken.encoded.names[4]]


def test_the_last_broken_file_goes_on_at_the_first(pictures):
  source = opened(pictures, max_broken=0.1)
  (pictures / source.encoded.names[-1]).write_bytes(b'')
  x0 = source[np.array([11, 0])]['x0']
  np.testing.assert_array_equal(x0[0], x0[1])


def test_too_many_broken_files_are_an_error(pictures):
  source = opened(pictures, max_broken=0.2)
  for name in source.encoded.names[:3]:
    (pictures / name).write_bytes(b'')
  with pytest.raises(ValueError, match='3 of 12 pictures cannot be read, more'):
    source[np.arange(12)]


def test_if_none_can_be_read_it_ends(pictures):
  source = opened(pictures, max_broken=1.0)
  for name in source.encoded.names:
    (pictures / name).write_bytes(b'')
  with pytest.raises(ValueError, match='none of the 12 pictures can be read'):
    source[0]


def test_batches_of_pictures(pictures):
  source = opened(pictures, by_class=True)
  batches = make_batches(source, batch_size=5, seed=0)
  drawn = [next(batches) for _ in range(12)]  # five epochs
  seen = np.concatenate([batch['x0'] for batch in drawn])
  assert seen.shape == (60, SIZE, SIZE, 3)
  assert len(np.unique(seen.reshape(60, -1), axis=0)) == 12
  counts = np.bincount(np.concatenate([batch['label'] for batch in drawn]))
  assert counts.tolist() == [30, 30]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'path': ''}, "path = '' must name a folder"),
    ({'path': '/no/such'}, "path = '/no/such' does not exist"),
    ({'size': 0}, 'size = 0 must be at least 1'),
    ({'channels': 4}, 'channels = 4 must be 1 or 3'),
    ({'resize': 'box'}, "resize = 'box' must be one of centre_crop, adm"),
    ({'max_broken': 2}, r'max_broken = 2 must lie in \[0, 1\]'),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'split': 'validation', 'validation': 0.0}, 'of 12 examples is empty'),
  ],
)
def test_wrong_options_are_named(pictures, options, message):
  with pytest.raises(ValueError, match=message):
    folder(**{'path': str(pictures), 'size': SIZE, **options})


def test_what_has_no_picture_is_named(tmp_path):
  with pytest.raises(ValueError, match='has no picture .*in it'):
    opened(tmp_path)
  for name in ('a.zip', 'a.tar'):
    (tmp_path / name).write_bytes(b'nothing')
    with pytest.raises(ValueError, match=f'{name}.* cannot be read'):
      opened(tmp_path / name)
  (tmp_path / 'a.rar').write_bytes(b'nothing')
  with pytest.raises(ValueError, match='must be a folder, or end in .zip'):
    opened(tmp_path / 'a.rar')
