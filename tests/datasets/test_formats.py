"""What is a picture: by ending, or by content; and how much is left out."""

import io

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import formats
from flowdistill.datasets.folder import folder

GRADIENT = np.linspace(0, 255, 8).astype(np.uint8)
COLOURS = PIL.Image.fromarray(
  np.stack([*np.meshgrid(GRADIENT, GRADIENT), np.full((8, 8), 99)], 2).astype(
    np.uint8
  )
)
FORM = {
  'png': 'PNG',
  'jpg': 'JPEG',
  'jfif': 'JPEG',
  'jpe': 'JPEG',
  'webp': 'WEBP',
  'avif': 'AVIF',
  'jp2': 'JPEG2000',
  'gif': 'GIF',
  'bmp': 'BMP',
  'tif': 'TIFF',
  'ppm': 'PPM',
  'pgm': 'PPM',
  'qoi': 'QOI',
  'tga': 'TGA',
  'sgi': 'SGI',
  'pcx': 'PCX',
}


def encoded(form):
  PIL.Image.init()
  if form not in PIL.Image.SAVE:
    pytest.skip(f'this Pillow writes no {form}')
  file = io.BytesIO()
  COLOURS.save(file, form)
  return file.getvalue()


@pytest.mark.parametrize('form', sorted({*FORM.values()} - {'TGA'}))
@pytest.mark.parametrize('name', ['picture', '0001', 'a.0001', 'a.image', 'a.'])
def test_a_name_without_an_ending_that_is_known_is_looked_into(
  tmp_path, form, name
):
  (tmp_path / name).write_bytes(encoded(form))
  source = folder(path=str(tmp_path), size=8, max_broken=0)
  assert source[0]['x0'].shape == (8, 8, 3)


@pytest.mark.parametrize('ending', FORM)
@pytest.mark.parametrize('upper', [False, True])
def test_every_format_is_read(tmp_path, ending, upper):
  name = f'a.{ending.upper() if upper else ending}'
  (tmp_path / name).write_bytes(encoded(FORM[ending]))
  source = folder(path=str(tmp_path), size=8, resize='cut', max_broken=0)
  off = (source[0]['x0'] + 1) * 127.5 - np.asarray(COLOURS)
  assert np.abs(off).mean() < 20  # some formats lose


@pytest.mark.parametrize(
  'name',
  ['a.txt', 'a.JSON', 'a.zip', 'a.heic', 'a.dng', 'a.png.part', 'a.jpg~'],
)
def test_a_name_with_another_known_ending_is_not_opened(name):
  assert formats.is_picture(name) is False


@pytest.mark.parametrize('name', ['a', 'a.', '.a', 'a.7', 'a.b/c', 'a.image'])
def test_of_other_names_only_the_content_tells(name):
  assert formats.is_picture(name) is None


@pytest.mark.parametrize(
  'head',
  [
    b'',
    b'\xff',
    b'P1 is a name',
    b'P5',
    b'BMW is a car, and no picture at all.',
    b'GIF87 is old',
    b'RIFF\0\0\0\0WAVEfmt ',
    b'\0\0\0\x18ftypheic\0\0\0\0',
    b'%!PS-Adobe-3.0 EPSF-3.0',
    b'PK\3\4',
    b'\nA line',
  ],
)
def test_what_begins_as_something_else_is_no_picture(head):
  assert not formats.begins_as_picture(head)


def test_no_format_starts_a_program():
  assert not {'EPS', 'WMF', 'EMF', 'FPX', 'MIC'} & {*formats.readable()}
  assert {*formats.readable()} <= {*formats.FORMATS}


def test_one_line_says_what_is_read_and_what_is_left_out(tmp_path, caplog):
  for name in ('a/1.png', 'a/2.jfif', 'b/3', 'b/4.png'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(encoded('PNG'))
  for name in ('a/1.txt', 'a/2.txt', 'b/3.heic', 'b/README', '.hidden'):
    (tmp_path / name).write_bytes(b'no picture')
  (tmp_path / 'empty').mkdir()
  with caplog.at_level('INFO', logger='absl'):
    for split in ('train', 'validation', 'train'):
      folder(path=str(tmp_path), by_class=True, split=split, validation=0.5)
  (line,) = [r.getMessage() for r in caplog.records]
  assert line == (
    f"'{tmp_path}': 4 pictures of 9 files; left out: 2 .txt, 1 .heic, "
    "1 hidden, 1 without an ending; 2 classes: 'a', 'b'; no class, as there is "
    "no picture in it: 'empty'"
  )


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
  (tmp_path / 'a.zip').touch()
  (tmp_path / 'b.heic').touch()
  with pytest.raises(ValueError, match='0 pictures of 2 files.* 1 .heic'):
    folder(path=str(tmp_path))
