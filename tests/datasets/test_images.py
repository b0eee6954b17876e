"""What a picture becomes, whatever it is written as."""

import ast
import io
import pathlib
import resource
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import images
from flowdistill.datasets.images import LARGEST, RESIZES, decode, to_unit

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 4, 3), np.uint8)


def encoded(image, form='PNG', **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


def picture(pixels):
  return PIL.Image.fromarray(np.asarray(pixels, np.uint8))


def middle(pixels):
  return np.asarray(pixels)[1:5]


@pytest.mark.parametrize('resize', ['centre_crop', 'adm', 'cut'])
def test_at_its_own_scale_the_middle_is_cut_out_to_the_bit(resize):
  found = decode(encoded(picture(COLOURS)), 4, 3, RESIZES[resize])
  np.testing.assert_array_equal(found, middle(COLOURS))


def test_stretch_takes_all_of_it():
  wide = np.repeat(COLOURS[:4, :4], 2, axis=1)  # twice as wide
  found = decode(encoded(picture(wide)), 4, 3, RESIZES['stretch'])
  off = np.abs(found.astype(int) - COLOURS[:4, :4])
  assert off.mean() < 25  # bicubic is no mean of two
  black = np.zeros((4, 8, 3))
  black[:, 7] = 255
  found = decode(encoded(picture(black)), 4, 3, RESIZES['stretch'])
  assert found[:, 3].min() > 50


def test_adm_halves_by_means_first():
  fine = RNG.integers(0, 256, (16, 16, 3), np.uint8)
  means = fine.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
  found = decode(encoded(picture(fine)), 4, 3, RESIZES['adm'])
  assert np.abs(found - means).max() <= 2  # it rounds twice


def test_cut_enlarges_what_is_too_small():
  found = decode(encoded(picture(COLOURS)), 8, 3, RESIZES['cut'])
  assert found.shape == (8, 8, 3)


@pytest.mark.parametrize('resize', RESIZES)
def test_a_constant_stays_a_constant(resize):
  for shape in (5, 50), (50, 5), (7, 7), (64, 33):
    plain = picture(np.full((*shape, 3), (10, 120, 250)))
    found = decode(encoded(plain), 8, 3, RESIZES[resize])
    assert found.shape == (8, 8, 3)
    np.testing.assert_array_equal(found, np.full((8, 8, 3), (10, 120, 250)))


def upright(image, form='PNG', channels=3, **options):
  return decode(encoded(image, form, **options), 4, channels, RESIZES['cut'])


def test_the_orientation_of_exif_is_applied():
  square = COLOURS[:4, :4]
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
  found = upright(picture(square), exif=exif)
  np.testing.assert_array_equal(found, np.rot90(square, -1))


def test_grey_becomes_colour_and_colour_grey():
  grey = COLOURS[:4, :4, 0]
  found = upright(picture(grey))
  np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))
  found = upright(picture(grey), channels=1)
  np.testing.assert_array_equal(found, grey[..., None])
  found = upright(picture(COLOURS[:4, :4]), channels=1)[..., 0]
  weighed = COLOURS[:4, :4] @ [0.299, 0.587, 0.114]
  assert np.abs(found - weighed).max() < 1


def test_a_palette_is_looked_up():
  image = picture(COLOURS[:4, :4]).quantize(16)
  np.testing.assert_array_equal(upright(image), COLOURS[:4, :4])


def test_what_is_transparent_lies_on_white():
  alpha = np.full((4, 4, 1), 255, np.uint8)
  alpha[0], alpha[1] = 0, 128
  clear = np.concatenate([COLOURS[:4, :4], alpha], axis=2)
  found = upright(PIL.Image.fromarray(clear)).astype(int)
  np.testing.assert_array_equal(found[0], np.full((4, 3), 255))
  np.testing.assert_array_equal(found[2:], COLOURS[2:4, :4])
  half = (COLOURS[1, :4].astype(int) + 255) / 2
  assert np.abs(found[1] - half).max() <= 2


def test_a_transparent_colour_of_a_palette_lies_on_white():
  image = picture(np.zeros((4, 4))).convert('P')
  assert upright(image, transparency=0).min() == 255


def test_sixteen_bits_keep_the_upper_eight():
  wide = (np.arange(16).reshape(4, 4) * 4096 + 77).astype(np.uint16)
  found = upright(PIL.Image.fromarray(wide), channels=1)[..., 0]
  np.testing.assert_array_equal(found, wide >> 8)


@pytest.mark.parametrize(
  ('form', 'options'),
  [
    ('PNG', {}),
    ('GIF', {}),
    ('TIFF', {}),
    ('WEBP', {'lossless': True}),
    ('MPO', {'quality': 100, 'subsampling': 0}),
  ],
)
def test_of_several_pictures_the_first_is_taken(form, options):
  first, second = (picture(np.full((4, 4, 3), grey)) for grey in (40, 200))
  more = {'save_all': True, 'append_images': [second], **options}
  assert np.abs(upright(first, form, **more).astype(int) - 40).max() <= 2


def test_cmyk_is_converted():
  found = upright(picture(np.zeros((4, 4, 3))).convert('CMYK'), 'JPEG')
  assert found.max() < 10


def test_the_range():
  ends = to_unit(np.array([0, 255], np.uint8))
  np.testing.assert_array_equal(ends, np.array([-1, 1], np.float32))
  assert ends.dtype == np.float32


def bomb(side):
  """A PNG of this side, of which only the first row is there."""

  def chunk(kind, data):
    checked = struct.pack('>I', zlib.crc32(kind + data))
    return struct.pack('>I', len(data)) + kind + data + checked

  size = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  data = zlib.compress(bytes(3 * side + 1))
  parts = chunk(b'IHDR', size) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + parts


JPEG = encoded(picture(np.kron(COLOURS, np.ones((20, 20, 1)))), 'JPEG')


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'it is not a picture'),
    (b'This is no picture.\n', 'it is not a picture'),
    (JPEG[: len(JPEG) // 2], 'truncated'),
    (JPEG[:40], '.'),
    (encoded(picture(COLOURS))[:-30], '.'),
    (bomb(30_000), 'exceeds limit|are more than 134,217,728'),
    (bomb(12_000), '12000 x 12000 pixels are more than 134,217,728'),
  ],
)
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_what_is_no_picture_is_an_error(data, message):
  with pytest.raises(ValueError, match=message):
    decode(data, 8, 3, RESIZES['centre_crop'])


def narrow(width, height):
  """A grey PNG of one row or column."""
  return encoded(PIL.Image.new('L', (width, height), 77))


@pytest.mark.parametrize(
  ('shape', 'resize', 'message'),
  [
    ((1, 2**16 + 1), 'centre_crop', 'a side of its 1 x 65537 pixels is longer'),
    ((4_000_000, 1), 'cut', 'a side of its 4000000 x 1 pixels is longer'),
    ((1, 2**16), 'adm', 'would be scaled to 64 x 4194304 pixels first'),
    ((2**16, 1), 'adm', 'would be scaled to 4194304 x 64 pixels first'),
  ],
)
def test_what_would_take_gigabytes_is_refused_first(shape, resize, message):
  data, before = narrow(*shape), resource.getrusage(resource.RUSAGE_SELF)
  with pytest.raises(ValueError, match=message):
    decode(data, 64, 3, RESIZES[resize])
  after = resource.getrusage(resource.RUSAGE_SELF)
  assert after.ru_maxrss - before.ru_maxrss < 2**17  # KiB


@pytest.mark.parametrize('resize', RESIZES)
def test_a_narrow_picture_of_moderate_size_is_read(resize):
  found = decode(narrow(5, 5000), 16, 1, RESIZES[resize])
  assert (found == 77).all()


def test_of_large_pictures_one_is_decoded_at_a_time(monkeypatch):
  monkeypatch.setattr(images, 'LARGE', 23)
  at_once = []

  def resize(image, size):
    at_once.append(images.ALONE.locked())
    return RESIZES['cut'](image, size)

  decode(encoded(picture(COLOURS)), 4, 3, resize)
  decode(encoded(picture(COLOURS[:5])), 4, 3, resize)
  assert at_once == [True, False]
  with pytest.raises(ValueError, match='.'):
    decode(encoded(picture(COLOURS))[:-30], 4, 3, resize)
  assert not images.ALONE.locked()


def test_a_stretched_picture_does_not_become_too_large_on_the_way():
  with pytest.raises(ValueError, match='scaled to 4096 x 65536 pixels first'):
    decode(narrow(1, 2**16), 4096, 1, RESIZES['stretch'])


def test_a_format_that_starts_a_program_is_never_tried(monkeypatch):
  """Pillow has Ghostscript draw an EPS, whatever its name ends in."""
  started = []
  monkeypatch.setattr('subprocess.check_call', started.append)
  monkeypatch.setattr('subprocess.Popen', started.append)
  for form in ('EPS', 'PDF'):
    with pytest.raises(ValueError, match='of a format that is read'):
      decode(encoded(picture(COLOURS), form), 4, 3, RESIZES['cut'])
  assert started == []


OPENERS = 'emoji_table.py', 'images.py', 'sheets.py'


def test_what_opens_pictures_names_the_formats():
  """Foreign ones are opened in one place, a font's and our own as PNG only."""
  package = pathlib.Path(images.__file__).parents[1]
  found = []
  for path in sorted(package.rglob('*.py')):
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name.endswith(('Image.open', 'imread')):
          found.append((path.name, [word.arg for word in node.keywords]))
  assert {name for name, _ in found} == {*OPENERS}
  assert all(words == ['formats'] for _, words in found)


def test_the_limit_lets_large_photographs_through():
  assert LARGEST > 11_000 * 11_000
