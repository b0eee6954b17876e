"""Every kind of file that is no weights has a message of its own."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from flowdistill.convert.arrays import read_chosen
from flowdistill.convert.kinds import kind_of


def tar():
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    archive.addfile(tarfile.TarInfo('storages'))
  return file.getvalue()


def npy():
  file = io.BytesIO()
  np.save(file, np.ones(3))
  return file.getvalue()


def zipped(**entries):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, data in entries.items():
      archive.writestr(name, data)
  return file.getvalue()


KINDS = {
  'empty': (b'', 'is empty: it has 0 bytes'),
  'page': (b'<!DOCTYPE html><html>', 'is a web page, not weights'),
  'page2': (b'\n\n  <html lang="en">', 'is a web page, not weights'),
  'marked': (b'\xef\xbb\xbf<?xml version="1.0"?>', 'is a web page'),
  'pointer': (
    b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n',
    'is a git-LFS pointer in place of the file: run `git lfs pull`',
  ),
  'gzip': (gzip.compress(b'x' * 99), 'is compressed by gzip: decompress it'),
  'bzip': (b'BZh91AY&SY', 'is compressed by bzip2'),
  'xz': (b'\xfd7zXZ\0\0', 'is compressed by xz'),
  'zstd': (b'\x28\xb5\x2f\xfd1', 'is compressed by zstd'),
  'tar': (tar(), 'is a tar archive; one of PyTorch 0.1'),
  'hdf5': (b'\x89HDF\r\n', 'is an HDF5 file'),
  'npy': (npy(), 'is an .npy file, one array without a name'),
  'gguf': (b'GGUF\x03', 'is a GGUF file'),
  'zeros': (bytes(4096), 'is all zeros: its download was not finished'),
  'json': (b'{"error": "not found"}', 'is text, such as JSON'),
  'text': (b'Not Found', 'must be one of .safetensors, .npz, PyTorch'),
  'pickle': (
    b'\x80\x02}q\0.',
    'cannot be read as a bare pickle: it has no tensors',
  ),
  'zip': (zipped(a=b'1'), 'is a zip archive without weights'),
  'none': (zipped(), 'is a zip archive without weights'),
  'cut': (zipped(a=b'1')[:-9], 'is a zip archive that is cut short'),
}


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_what_it_is_is_said(tmp_path, name, ending):
  data, message = KINDS[name]
  path = tmp_path / f'x{ending}'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=rf'x\{ending} ({message})'):
    read_chosen(path, lambda names: names)


def test_messages_are_distinct():
  messages = [message.split()[:3] for _, message in KINDS.values()]
  assert len({tuple(m) for m in messages}) >= 12


def test_what_is_no_file(tmp_path):
  with pytest.raises(ValueError, match=r'there is no file .*x\.pth'):
    kind_of(tmp_path / 'x.pth')
  with pytest.raises(ValueError, match='is a folder; name the file in it'):
    kind_of(tmp_path)
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(ValueError, match='pipe is not a regular file'):
    kind_of(tmp_path / 'pipe')
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  with pytest.raises(ValueError, match='loop'):
    kind_of(tmp_path / 'loop')
