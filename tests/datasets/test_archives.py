"""Zip archives as others make them: wrapped, cut, linked, mislabelled."""

import io
import pathlib
import zipfile

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import tar
from flowdistill.datasets.archives import Tar, Zip
from flowdistill.datasets.folder import folder
from flowdistill.datasets.images import to_unit


def pixels(k):
  return np.random.default_rng(k).integers(0, 256, (4, 4, 3), np.uint8)


def encoded(k, form='PNG'):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels(k)).save(file, form)
  return file.getvalue()


def written(path, members, packing=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', packing) as archive:
    for name, data in members.items():
      archive.writestr(name, data)
  return path


def opened(path, **options):
  return folder(path=str(path), size=4, **options)


CLASSES = {'a/0.png': encoded(0), 'b/1.png': encoded(1)}
MAC = {
  '__MACOSX/top/a/._0.png': b'',
  '__MACOSX/top/b/x.png': b'',
  'top/.DS_Store': b'',
  'top/a/._0.png': b'',
  'top/a/Thumbs.db': b'',
  'top/notes.txt': b'',
}


@pytest.mark.parametrize('around', ['', 'top/', 'data/set/train/'])
def test_folders_around_all_classes_are_looked_through(
  tmp_path, around, caplog
):
  members = {around + name: data for name, data in CLASSES.items()}
  members |= MAC if around == 'top/' else {}
  members |= {'docs/read': b'me', 'docs/x.txt': b'y'}
  with caplog.at_level('INFO', logger='absl'):
    source = opened(written(tmp_path / 'a.zip', members), by_class=True)
  said = f"they are in '{around.split('/')[0]}'"
  assert (said in caplog.text) == bool(around)
  assert source.spec.classes == ('a', 'b')
  assert source.encoded.names == [around + name for name in CLASSES]
  assert source.conditions(np.arange(2))['label'].tolist() == [0, 1]


def test_of_a_folder_the_first_level_is_the_class(tmp_path):
  """The path may name the folder below it."""
  for name, data in CLASSES.items():
    path = tmp_path / 'top' / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
  assert opened(tmp_path, by_class=True).spec.classes == ('top',)
  assert opened(tmp_path / 'top', by_class=True).spec.classes == ('a', 'b')


def test_every_cut_zip_is_refused(tmp_path):
  data = written(tmp_path / 'whole.zip', CLASSES).read_bytes()
  for size in range(0, len(data), 7):
    (tmp_path / 'a.zip').write_bytes(data[:size])
    with pytest.raises(ValueError, match='a.zip.* cannot be read'):
      opened(tmp_path / 'a.zip')
    (tmp_path / 'a.zip').unlink()


def test_a_zip_that_is_cut_behind_an_archive_in_it_is_not_that_archive(
  tmp_path,
):
  inner = written(tmp_path / 'inner.zip', CLASSES).read_bytes()
  members = {'2.png': encoded(2), 'inner.zip': inner, '3.png': encoded(3)}
  path = written(tmp_path / 'a.zip', members)
  assert opened(path).encoded.names == ['2.png', '3.png']
  path.write_bytes(path.read_bytes()[: path.read_bytes().rindex(b'3.png') - 60])
  with pytest.raises(ValueError, match='a.zip.* cannot be read: it is cut'):
    opened(path)


def test_one_with_a_program_before_it_is_read(tmp_path):
  path = written(tmp_path / 'a.zip', CLASSES)
  path.write_bytes(b'#!/bin/sh\n' + path.read_bytes())
  assert len(opened(path)) == 2


def test_links_are_read(tmp_path):
  path = written(tmp_path / 'a.zip', CLASSES)
  with zipfile.ZipFile(path, 'a') as archive:
    for name, target in (('b/2.png', '../a/0.png'), ('3.png', '/etc/passwd')):
      link = zipfile.ZipInfo(name)
      link.external_attr = 0o120777 << 16
      archive.writestr(link, target)
  source = opened(path)
  assert source.encoded.names == [*CLASSES, 'b/2.png']
  np.testing.assert_array_equal(source[2]['x0'], to_unit(pixels(0)))
  assert source.encoded.files.catalogue.left == {'link to nothing': 1}


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_two_members_of_one_name_are_one_picture(tmp_path):
  path = written(tmp_path / 'a.zip', {'a.png': encoded(0)})
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('a.png', encoded(1))
  source = opened(path)
  assert len(source) == 1
  np.testing.assert_array_equal(source[0]['x0'], to_unit(pixels(1)))


def test_names_that_differ_in_case_are_two_pictures(tmp_path):
  members = {'a.png': encoded(0), 'A.PNG': encoded(1)}
  source = opened(written(tmp_path / 'a.zip', members))
  np.testing.assert_array_equal(source[0]['x0'], to_unit(pixels(1)))
  np.testing.assert_array_equal(source[1]['x0'], to_unit(pixels(0)))


@pytest.mark.parametrize('packing', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_without_an_ending_are_looked_into(tmp_path, packing):
  members = {'0': encoded(0), '1': b'text', '2.7z': encoded(2)}
  source = opened(written(tmp_path / 'a.zip', members, packing))
  assert source.encoded.names == ['0']


def test_a_member_with_a_wrong_checksum_is_left_out(tmp_path):
  members = {f'{k}.bmp': encoded(k, 'BMP') for k in range(4)}
  path = written(tmp_path / 'a.zip', members)
  data = bytearray(path.read_bytes())
  data[data.index(encoded(2, 'BMP')) + 70] ^= 1
  path.write_bytes(data)
  source = opened(path, max_broken=0.5)
  source[np.arange(4)]
  assert [*source.broken] == ['2.bmp']
  assert 'CRC' in source.broken['2.bmp']


def test_an_archive_of_the_other_kind_is_refused(tmp_path):
  path = written(tmp_path / 'a.zip', CLASSES)
  path.rename(tmp_path / 'a.tar')
  with pytest.raises(ValueError, match=r'a\.tar.* cannot be read'):
    opened(tmp_path / 'a.tar')


def test_both_are_what_the_protocol_asks(tmp_path):
  zipped = Zip(written(tmp_path / 'a.zip', CLASSES))
  with tar.tarfile.open(tmp_path / 'a.tar', 'w') as archive:
    for name, data in CLASSES.items():
      info = tar.tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  tarred = Tar(pathlib.Path(tmp_path / 'a.tar'))
  assert zipped.catalogue.names == tarred.catalogue.names == [*CLASSES]
  for name, data in CLASSES.items():
    assert zipped.read(name) == tarred.read(name) == data
