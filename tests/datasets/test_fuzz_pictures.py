"""Damaged pictures and archives: an array, or an error that names the file."""

import io
import os
import random
import resource
import tarfile
import time
import zipfile

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets.folder import folder
from flowdistill.datasets.formats import readable

RNG = np.random.default_rng(0)
COLOURS = PIL.Image.fromarray(RNG.integers(0, 256, (24, 20, 3), np.uint8))
WIDE = PIL.Image.fromarray(RNG.integers(0, 2**16, (24, 20), np.uint16))
FLOATS = PIL.Image.fromarray(RNG.random((24, 20), np.float32))
EXIF = PIL.Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, 'maker'
EXTREMES = [
  bytes(4),
  b'\xff' * 4,
  b'\x7f\xff\xff\xff',
  b'\0\1\0\0',
  b'\0\0\1\0',
]
SECONDS = 5  # for a file, as nothing else tells a hang from a slow machine
MEMORY = 2**21  # KiB


def encoded(image, form, **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


def whole():
  """Pictures of every format and of many kinds."""
  forms = sorted({*readable()} & {*PIL.Image.SAVE})
  pictures = [encoded(COLOURS, form) for form in forms]
  pictures += [encoded(WIDE, form) for form in ('PNG', 'TIFF', 'PPM')]
  pictures += [encoded(FLOATS, form) for form in ('TIFF', 'PPM')]
  for mode in ('P', 'LA', 'RGBA', '1'):
    pictures.append(encoded(COLOURS.convert(mode), 'PNG'))
  for packing in ('tiff_lzw', 'jpeg', 'tiff_adobe_deflate'):
    pictures.append(encoded(COLOURS, 'TIFF', compression=packing))
  for form in ('GIF', 'PNG', 'WEBP', 'TIFF', 'MPO'):
    frames = {'save_all': True, 'append_images': [COLOURS.rotate(90)]}
    pictures.append(encoded(COLOURS, form, **frames))
  pictures.append(encoded(COLOURS, 'JPEG', progressive=True, exif=EXIF))
  pictures.append(encoded(COLOURS.convert('CMYK'), 'JPEG'))
  return [*pictures, encoded(COLOURS, 'PNG', exif=EXIF), b'P1 3 2 1 0 1 0 1 0']


def damaged(data, others, rng, header=120):
  """The bytes of a file with up to eight faults, half of them at its head."""
  data = bytearray(data)
  for _ in range(rng.choice([1, 1, 2, 4, 8])):
    at = rng.randrange(min(len(data), rng.choice([header, len(data)])) or 1)
    kind = rng.randrange(6)
    if kind == 0:
      data[at : at + 1] = bytes([rng.randrange(256)])
    elif kind == 1:
      data[at : at + 1] = bytes(
        [(data[at] if data else 0) ^ 1 << rng.randrange(8)]
      )
    elif kind == 2:
      data[at : at + 4] = rng.choice(EXTREMES)
    elif kind == 3:
      del data[at + 1 :]
    elif kind == 4:
      data[at:at] = data[: rng.randrange(64)]
    else:
      other = rng.choice(others)
      data[at : at + 32] = other[at : at + 32]
  return bytes(data)


def peak():
  """The largest memory of this process so far, in KiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.filterwarnings('ignore')  # Pillow warns of damaged files
def read_damaged_pictures(path, count, seed):
  rng, pictures, before = random.Random(seed), whole(), peak()
  for k in range(count):
    data = damaged(rng.choice(pictures), pictures, rng)
    (path / f'{k:06d}.png').write_bytes(data)
  source = folder(path=str(path), size=8, resize='adm', max_broken=1.0)
  slowest = 0.0
  for k in range(count):
    start = time.perf_counter()
    assert source[k]['x0'].shape == (8, 8, 3)
    slowest = max(slowest, time.perf_counter() - start)
  assert count / 10 < len(source.broken) < count
  assert all(source.broken.values())  # each has a reason
  assert slowest < SECONDS
  assert peak() - before < MEMORY


@pytest.mark.filterwarnings('ignore')
def test_some_damaged_pictures(tmp_path):
  read_damaged_pictures(tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_many_damaged_pictures(tmp_path):
  read_damaged_pictures(tmp_path, 20_000, seed=1)


def tars():
  """Archives of every format of tar, with long names, links and holes."""
  for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w', format=form) as archive:
      for name in ('./a/1.png', f'b/{"deep/" * 30}2', 'a/é.jpg'):
        info = tarfile.TarInfo(name)
        info.size = len(data := encoded(COLOURS, 'PNG'))
        archive.addfile(info, io.BytesIO(data))
      for name, kind in (('b/3.png', tarfile.SYMTYPE), ('4', tarfile.LNKTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, 'a/é.jpg'
        archive.addfile(info)
    yield file.getvalue()


def zips():
  for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', packing) as archive:
      for name in ('a/1.png', 'b/2', 'a/é.jpg'):
        archive.writestr(name, encoded(COLOURS, 'BMP'))
      link = zipfile.ZipInfo('b/3.png')
      link.external_attr = 0o120777 << 16
      archive.writestr(link, '../a/1.png')
    yield file.getvalue()


def read_damaged_archives(path, ending, archives, count):
  rng, before, said = random.Random(0), peak(), []
  path = path / f'damaged{ending}'
  for k in range(count):
    data = rng.choice(archives)
    at_end = ending == '.zip' and rng.random() < 0.5  # where its list is
    data = data[::-1] if at_end else data
    data = damaged(data, archives, rng, 700)
    path.write_bytes(data[::-1] if at_end else data)
    os.utime(path, ns=(k, k))
    start = time.perf_counter()
    try:
      source = folder(path=str(path), size=8, max_broken=1.0)
      assert source[np.arange(len(source))]['x0'].shape[1:] == (8, 8, 3)
    except ValueError as error:
      said.append(str(error))
    assert time.perf_counter() - start < SECONDS
  assert count / 10 < len(said) < count
  names = (path.name, 'pictures can be read, such as')
  assert [text for text in said if not any(n in text for n in names)] == []
  assert peak() - before < MEMORY


@pytest.mark.parametrize(('ending', 'made'), [('.tar', tars), ('.zip', zips)])
@pytest.mark.filterwarnings('ignore')
def test_some_damaged_archives(tmp_path, ending, made):
  read_damaged_archives(tmp_path, ending, [*made()], 100)


@pytest.mark.slow
@pytest.mark.parametrize(('ending', 'made'), [('.tar', tars), ('.zip', zips)])
@pytest.mark.filterwarnings('ignore')
def test_many_damaged_archives(tmp_path, ending, made):
  read_damaged_archives(tmp_path, ending, [*made()], 10_000)
