"""Tar archives: whole or refused; links, holes and strange names."""

import gzip
import io
import lzma
import os
import subprocess
import tarfile
import time

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets.archives import Tar
from flowdistill.datasets.folder import folder
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.tar import members

BLOCK = 512


def pixels(k):
  return np.random.default_rng(k).integers(0, 256, (16, 16, 3), np.uint8)


def encoded(k, form='PNG'):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels(k)).save(file, form)
  return file.getvalue()


def add(archive, name, data=b'', kind=tarfile.REGTYPE, target=''):
  info = tarfile.TarInfo(name)
  info.size, info.type, info.linkname = len(data), kind, target
  archive.addfile(info, io.BytesIO(data))


def written(path, names, mode='w', **options):
  with tarfile.open(path, mode, **options) as archive:
    for k, name in enumerate(names):
      add(archive, name, encoded(k))
  return path


def opened(path, **options):
  return folder(path=str(path), size=16, max_broken=0, **options)


FOUR = ['a/0.png', 'a/1.png', 'b/2.png', 'b/3.png']
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize('form', FORMATS)
def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path, form):
  names = [f'{"long/" * 40}{name}' for name in FOUR]
  form = tarfile.GNU_FORMAT if form == tarfile.USTAR_FORMAT else form
  data = written(tmp_path / 'a.tar', names, format=form).read_bytes()
  end = -(-len(data.rstrip(b'\0')) // BLOCK) * BLOCK
  cut = tmp_path / 'cut.tar'
  for size in {*range(0, end + 1, 128), end - 1, end}:
    cut.write_bytes(data[:size])
    with pytest.raises(ValueError, match=r'cut.tar.* cannot be read'):
      opened(cut)
    cut.unlink()
  cut.write_bytes(data[: end + BLOCK])  # one block of zeros is an end
  assert len(opened(cut)) == 4


def test_a_damaged_header_is_no_end(tmp_path):
  path = written(tmp_path / 'a.tar', FOUR)
  data = bytearray(path.read_bytes())
  data[data.index(b'b/2.png') + 1] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match='it is cut or damaged at byte'):
    opened(path)


def test_what_follows_the_end_is_not_lost_without_a_word(tmp_path):
  path = written(tmp_path / 'a.tar', FOUR)
  path.write_bytes(path.read_bytes() * 2)
  with pytest.raises(ValueError, match='another archive or other data follow'):
    opened(path)


def test_an_end_without_end_is_not_read_to_its_end(tmp_path):
  path = written(tmp_path / 'a.tar', FOUR)
  os.truncate(path, 2**40)
  start = time.monotonic()
  assert len(opened(path)) == 4
  assert time.monotonic() - start < 2


def test_one_that_was_appended_to_is_whole(tmp_path):
  path = written(tmp_path / 'a.tar', FOUR[:2])
  written(path, FOUR[2:], 'a')
  assert len(opened(path)) == 4


@pytest.mark.parametrize('name', ['a.tar', 'a.tar.gz', 'a.tgz', 'a.tar.xz'])
@pytest.mark.parametrize('share', [1, 0.5])
def test_a_compressed_archive_is_refused_with_what_to_do(tmp_path, name, share):
  data = written(tmp_path / 'whole.tar', FOUR).read_bytes()
  pack, program = gzip.compress, 'gunzip'
  if name.endswith('xz'):
    pack, program = lzma.compress, 'unxz'
  packed = pack(data)
  (tmp_path / name).write_bytes(packed[: int(len(packed) * share)])
  with pytest.raises(ValueError, match=f'compressed as a whole.*`{program}`'):
    opened(tmp_path / name)


def test_links_are_read(tmp_path):
  with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
    add(archive, 'a/0.png', encoded(0))
    add(archive, 'b/hard.png', kind=tarfile.LNKTYPE, target='a/0.png')
    add(archive, 'b/soft.png', kind=tarfile.SYMTYPE, target='../a/0.png')
    add(archive, 'b/more', kind=tarfile.SYMTYPE, target='soft.png')
    add(archive, 'b/gone.png', kind=tarfile.SYMTYPE, target='../../etc/x.png')
    add(archive, 'b/p.png', kind=tarfile.SYMTYPE, target='q.png')
    add(archive, 'b/q.png', kind=tarfile.SYMTYPE, target='p.png')
    add(archive, 'pipe.png', kind=tarfile.FIFOTYPE)
    add(archive, 'empty', kind=tarfile.DIRTYPE)
  source = opened(tmp_path / 'a.tar')
  names = ['a/0.png', 'b/hard.png', 'b/more', 'b/soft.png']
  assert source.encoded.names == names
  for x in source[np.arange(4)]['x0']:
    np.testing.assert_array_equal(x, to_unit(pixels(0)))
  found = source.encoded.files.catalogue
  assert (found.files, found.links) == (8, 3)
  assert found.left == {'link to nothing': 3, 'not a regular file': 1}


@pytest.mark.parametrize('form', FORMATS)
def test_names_that_begin_with_a_point_are_not_hidden(tmp_path, form):
  names = [f'./{name}' for name in FOUR]
  path = written(tmp_path / 'a.tar', [*names, './.hidden/4.png'], format=form)
  source = opened(path, by_class=True)
  assert source.encoded.names == FOUR
  assert source.spec.classes == ('a', 'b')


def test_absolute_names_and_those_above_are_only_names(tmp_path):
  names = ['/etc/0.png', '../../up/1.png', 'a/../b/2.png']
  source = opened(written(tmp_path / 'a.tar', names), by_class=True)
  assert source.encoded.names == ['/etc/0.png', 'b/2.png', 'up/1.png']
  assert source.spec.classes == ('b', 'etc', 'up')


def test_the_last_of_two_members_of_one_name_counts(tmp_path):
  path = written(tmp_path / 'a.tar', ['a/0.png', './a/0.png'])
  (x,) = opened(path)[np.arange(1)]['x0']
  np.testing.assert_array_equal(x, to_unit(pixels(1)))


def test_names_that_are_not_utf_8_work(tmp_path):
  name = b'caf\xe9.png'.decode('utf-8', 'surrogateescape')
  path = written(tmp_path / 'a.tar', [name, 'b.png'], format=tarfile.GNU_FORMAT)
  for split in ('train', 'validation'):
    assert len(opened(path, split=split)) == 1


@pytest.mark.parametrize('form', ['gnu', 'posix'])
def test_files_with_holes_are_read(tmp_path, form):
  data = encoded(0, 'BMP')
  with open(tmp_path / '0.bmp', 'wb') as file:
    file.write(data)
    file.truncate(2**20)
  (tmp_path / '1.png').write_bytes(encoded(1))
  command = ['tar', f'--format={form}', '--sparse', '-cf', 'a.tar']
  subprocess.run([*command, '0.bmp', '1.png'], cwd=tmp_path, check=True)
  assert any(member.sparse for member in members(tmp_path / 'a.tar'))
  assert (tmp_path / 'a.tar').stat().st_size < 2**19
  assert Tar(tmp_path / 'a.tar').read('0.bmp') == data.ljust(2**20, b'\0')
  source = opened(tmp_path / 'a.tar')
  for k in range(2):
    np.testing.assert_array_equal(source[k]['x0'], to_unit(pixels(k)))


def header(size, kind=b'0', name=b'a.png'):
  """A header that says any size, also a negative one."""
  block = bytearray(BLOCK)
  block[: len(name)], block[156:157] = name, kind
  block[124:136] = (size % 2**96).to_bytes(12, 'big')
  block[124] = 0x80 if size >= 0 else 0xFF
  block[257:265] = b'ustar  \0'
  block[148:156] = b'%06o\0 ' % (sum(block) + 8 * 32)
  return bytes(block)


LIES = {
  'negative': header(-BLOCK),
  'far': header(2**60),
  'long name': header(2**40, b'L'),
  'negative name': header(-BLOCK, b'L'),
  'pax': header(2**40, b'x'),
  'pax of digits': header(2**19, b'x') + b'1' * 2**19,
  'many names': header(0, b'L') * 3000,
  'extended': header(0, b'S')[:482] + b'\1' + header(0, b'S')[483:],
}


@pytest.mark.parametrize('lie', LIES)
def test_headers_that_lie_are_refused_in_time(tmp_path, lie):
  path = tmp_path / 'a.tar'
  path.write_bytes(LIES[lie] + bytes(2 * BLOCK))
  start = time.monotonic()
  with pytest.raises(ValueError, match=r'a\.tar.* cannot be read'):
    opened(path)
  assert time.monotonic() - start < 2
