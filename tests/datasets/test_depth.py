"""Pictures of 1 to 32 bits: what becomes of them, or why they are refused."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets.images import RESIZES, decode

RGB, GREY = 2, 0
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


def chunk(kind, data):
  checked = struct.pack('>I', zlib.crc32(kind + data))
  return struct.pack('>I', len(data)) + kind + data + checked


def png(row, bits, kind=GREY, clear=None):
  """A PNG of 4 x 1 pixels."""
  size = struct.pack('>IIBBBBB', 4, 1, bits, kind, 0, 0, 0)
  parts = [b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', size)]
  if clear is not None:
    values = np.atleast_1d(clear).astype('>u2').tobytes()
    parts.append(chunk(b'tRNS', values))
  parts.append(chunk(b'IDAT', zlib.compress(b'\0' + row)))
  return b''.join([*parts, chunk(b'IEND', b'')])


def tiff(row, bits, kind=UNSIGNED, white=BLACK_IS_ZERO, order='<'):
  """A TIFF of 4 x 1 pixels."""
  tags = {256: 4, 257: 1, 258: bits, 259: 1, 262: white}
  tags |= {273: 0, 277: 1, 278: 1, 279: len(row), 339: kind}
  tags[273] = 8 + 2 + 12 * len(tags) + 4
  head = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(f'{order}I', 8)
  head += struct.pack(f'{order}H', len(tags))
  for tag, value in tags.items():
    head += struct.pack(f'{order}HHI', tag, 3, 1)
    head += struct.pack(f'{order}HH', value, 0)
  return head + bytes(4) + row


def read(data):
  found = decode(data, 4, 1, lambda image, size: image.resize((4, 4), 0))
  return found[0, :, 0].tolist()


WIDE = np.array([0, 0x1234, 0x80FF, 0xFFFF])
UPPER = [0, 0x12, 0x80, 0xFF]
UNIT = np.array([0, 0.2, 0.5, 1], np.float32)
SCALED = [0, 51, 128, 255]


@pytest.mark.parametrize(
  ('data', 'found'),
  [
    (png(WIDE.astype('>u2').tobytes(), 16), UPPER),
    (tiff(WIDE.astype('<u2').tobytes(), 16), UPPER),
    (tiff(WIDE.astype('>u2').tobytes(), 16, order='>'), UPPER),
    (b'P5 4 1 65535\n' + WIDE.astype('>u2').tobytes(), UPPER),
    (b'P2 4 1 65535\n0 4660 33023 65535', UPPER),
    (b'P5 4 1 1023\n' + struct.pack('>4H', 0, 73, 512, 1023), UPPER),
    (b'P5 4 1 15\n\0\1\10\17', [0, 17, 136, 255]),
    (tiff(bytes([0, 1, 0x23, 0x80, 0x0F, 0xFF]), 12), [0, 0x12, 0x80, 0xFF]),
    (tiff(UNIT.astype('<f4').tobytes(), 32, FLOAT), SCALED),
    (tiff(UNIT.astype('>f4').tobytes(), 32, FLOAT, order='>'), SCALED),
    (b'Pf 4 1 -1.0\n' + UNIT.astype('<f4').tobytes(), SCALED),
  ],
)
def test_deep_pictures_are_scaled(data, found):
  assert read(data) == found


@pytest.mark.parametrize(
  'data',
  [
    tiff(bytes([255, 205, 127, 0]), 8, white=WHITE_IS_ZERO),
    tiff((65535 - WIDE).astype('<u2').tobytes(), 16, white=WHITE_IS_ZERO),
    tiff((1 - UNIT).tobytes(), 32, FLOAT, WHITE_IS_ZERO),
  ],
)
def test_where_white_is_zero_the_picture_is_no_negative(data):
  found = read(data)
  assert found[0] == 0 and found[3] == 255
  assert found == sorted(found)


def test_sixteen_bits_of_jpeg_2000():
  file = io.BytesIO()
  square = np.tile(WIDE.astype(np.uint16), (4, 1))
  PIL.Image.fromarray(square).save(file, 'JPEG2000', irreversible=False)
  assert read(file.getvalue()) == UPPER


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (tiff(np.array([0, 1, 2, 65535], '<u4').tobytes(), 32), 'have 32 bits'),
    (tiff(np.array([0, 1, 2, 9], '<i4').tobytes(), 32, SIGNED), 'are signed'),
    (tiff(np.array([0, 1, 2, -9], '<i2').tobytes(), 16, SIGNED), 'are signed'),
    (tiff(UNIT.tobytes(), 32, FLOAT)[:-4] + b'\0\0\xc0\x7f', 'floats lie in'),
    (tiff((255 * UNIT).tobytes(), 32, FLOAT), r'\[0, 255\], and must lie in'),
    (tiff((UNIT - 0.5).tobytes(), 32, FLOAT), r'\[-0.5, 0.5\], and must'),
    (tiff((UNIT + np.float32('inf')).tobytes(), 32, FLOAT), 'floats lie in'),
    (
      png(bytes(24), 16, RGB, [0, 0, 0]),
      'transparent colour has 16 bits per channel',
    ),
  ],
)
def test_an_unknown_range_is_refused(data, message):
  with pytest.raises(ValueError, match=message):
    read(data)


@pytest.mark.parametrize(
  ('row', 'bits', 'clear', 'found'),
  [
    (b'\xa0', 1, 0, [255, 255, 255, 255]),
    (b'\xa0', 1, 1, [255, 0, 255, 0]),
    (b'\x1b', 2, 1, [0, 255, 170, 255]),
    (b'\x03\x7f', 4, 3, [0, 255, 119, 255]),
    (bytes([0, 9, 100, 255]), 8, 9, [0, 255, 100, 255]),
    (WIDE.astype('>u2').tobytes(), 16, 0x1234, [0, 255, 0x80, 255]),
    (WIDE.astype('>u2').tobytes(), 16, 0x12, UPPER),
  ],
)
def test_a_transparent_grey_of_any_depth_is_white(row, bits, clear, found):
  assert read(png(row, bits, clear=clear)) == found


def test_a_transparent_colour_of_eight_bits_is_white():
  row = bytes([0, 0, 0, 9, 9, 9, 100, 100, 100, 255, 255, 255])
  assert read(png(row, 8, RGB, [9, 9, 9])) == [0, 255, 100, 255]


@pytest.mark.parametrize('resize', RESIZES)
def test_they_can_be_resized(resize):
  data = tiff(WIDE.astype('<u2').tobytes(), 16)
  assert decode(data, 4, 3, RESIZES[resize]).shape == (4, 4, 3)
