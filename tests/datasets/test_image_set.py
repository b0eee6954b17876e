"""Sets of finished images: whatever they are in, their pixels; or why not."""

import gzip
import io
import os
import pickle
import tarfile
import tracemalloc
import zipfile

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets import image_set
from flowdistill.datasets.image_set import open_images
from flowdistill.flow.pixels import to_uint8

N, H, W = 12, 5, 7
X = np.random.default_rng(0).integers(0, 256, (N, H, W, 3), np.uint8)
GREY = X[..., :1]


def picture(x):
  return PIL.Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)


def encoded(x, kind='PNG', **options):
  file = io.BytesIO()
  picture(x).save(file, kind, **options)
  return file.getvalue()


def write_folder(path, x=X, kind='png', **options):
  """0.png to 11.png, so that the order of text is another."""
  path.mkdir(parents=True)
  for k, image in enumerate(x):
    picture(image).save(path / f'{k}.{kind}', **options)
  return path


def write(path, x=X, **more):
  """The images in a file or folder of the kind that its ending says."""
  names = [f'all/{k}.png' for k in range(len(x))]
  if path.suffix == '.npz':
    np.savez(path, x, **more)
  elif path.suffix == '.npy':
    np.save(path, x)
  elif path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w') as archive:
      for name, image in zip(names, x, strict=True):
        archive.writestr(name, encoded(image))
  elif path.suffix == '.tar':
    with tarfile.open(path, 'w') as archive:
      for name, image in zip(names, x, strict=True):
        info = tarfile.TarInfo(name)
        info.size = len(data := encoded(image))
        archive.addfile(info, io.BytesIO(data))
  else:
    write_folder(path, x)
  return path


def refused(path, message):
  """Asserts that a path is refused in one line that names it first."""
  with pytest.raises(ValueError, match=message) as caught:
    opened = open_images(str(path))
    opened[np.arange(len(opened))]
  assert str(caught.value).startswith(f'path = {str(path)!r}')
  assert '\n' not in str(caught.value)


def decoded(path):
  return open_images(str(path))[np.arange(N)]


@pytest.mark.parametrize('name', ['x', 'x.zip', 'x.tar', 'x.npz', 'x.npy'])
@pytest.mark.parametrize('x', [X, GREY], ids=['rgb', 'grey'])
def test_the_same_images_are_the_same_set(tmp_path, monkeypatch, name, x):
  monkeypatch.setattr(image_set, 'AT_ONCE', 5 * x[0].size)
  images = open_images(str(write(tmp_path / name, x)))
  assert (len(images), images.shape) == (N, x.shape[1:])
  np.testing.assert_array_equal(images[np.arange(N)], x)
  np.testing.assert_array_equal(images[np.array([10, 2, 2])], x[[10, 2, 2]])
  assert images[[0]].dtype == np.uint8
  assert images.codec == ('none' if 'np' in name else 'png')
  assert images.names[10].removesuffix('.png').strip('[]').endswith('10')
  direct = open_images(str(write(tmp_path / 'other.npy', x)))
  assert images.digest() == direct.digest()
  assert len(images.digest()) == 64


def test_the_digest_depends_on_order_shape_and_pixels(tmp_path):
  others = [X, X[::-1], X[:, ::-1], GREY, X.reshape(N, W, H, 3), X[:-1]]
  digests = set()
  for k, x in enumerate(others):
    np.save(tmp_path / f'{k}.npy', x)
    digests.add(open_images(str(tmp_path / f'{k}.npy')).digest())
  assert len(digests) == len(others)


def test_an_index_that_does_not_exist(tmp_path):
  images = open_images(str(write(tmp_path / 'x.npy')))
  np.testing.assert_array_equal(images[[-1]], X[-1:])
  assert images[np.zeros(0, int)].shape == (0, H, W, 3)
  for index in ([N], 3, [[1, 2]], [0.5]):
    with pytest.raises(IndexError):
      images[index]


def test_a_folder_is_not_held(tmp_path):
  big = np.zeros((8, 256, 256, 3), np.uint8)
  images = open_images(str(write_folder(tmp_path / 'x', big)))
  images.digest()
  tracemalloc.start()
  for k in range(len(big)):
    images[[k]]
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < big.nbytes / 2


def test_grey_pictures_become_rgb_beside_one_in_rgb(tmp_path):
  path = write_folder(tmp_path / 'x', GREY[:3])
  picture(X[3]).save(path / '3.png')
  images = open_images(str(path))
  assert images.shape == (H, W, 3)
  np.testing.assert_array_equal(
    images[np.arange(4)], [*np.repeat(GREY[:3], 3, -1), X[3]]
  )


@pytest.mark.parametrize('mode', ['1', 'P', 'I;16', 'LA'])
def test_grey_is_known_by_its_header(tmp_path, mode):
  path = write_folder(tmp_path / 'x', GREY[:1])
  image = picture(GREY[0])
  if mode == 'P':
    image.putpalette([v for k in range(256) for v in (k, k, k)])
    image = image.convert('P')
  elif mode == 'I;16':
    image = PIL.Image.fromarray(GREY[0, ..., 0].astype(np.uint16) << 8)
  else:
    image = image.convert(mode, dither=PIL.Image.Dither.NONE)
  image.save(path / '1.png')
  with PIL.Image.open(path / '1.png') as again:
    assert again.mode == mode
  images = open_images(str(path))
  assert images.shape == (H, W, 1)
  expected = (GREY[0] > 127) * 255 if mode == '1' else GREY[0]
  np.testing.assert_array_equal(images[[1]][0], expected)


def test_a_palette_of_colours_is_rgb(tmp_path):
  path = write_folder(tmp_path / 'x', GREY[:1])
  picture(X[0]).quantize().save(path / '1.png')
  assert open_images(str(path)).shape == (H, W, 3)


def test_pictures_are_upright_and_on_white(tmp_path):
  path = write_folder(tmp_path / 'x', X[:1].swapaxes(1, 2))
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  for name in ('1.png', '2.jpg', '3.webp', '4.tif'):
    picture(X[1]).save(path / name, exif=exif, lossless=True, quality=100)
  clear = PIL.Image.new('RGBA', (H, W), (9, 9, 9, 0))
  clear.save(path / '5.png')
  images = open_images(str(path))
  assert images.shape == (W, H, 3)
  x = images[np.arange(6)]
  for k in (1, 3, 4):
    np.testing.assert_array_equal(x[k], np.rot90(X[1], -1))
  assert (x[5] == 255).all()
  assert images.codec == 'png and jpeg and webp and tiff'


@pytest.mark.parametrize('kind', ['jpeg', 'webp', 'gif', 'bmp'])
def test_the_codec_is_what_the_files_are(tmp_path, kind):
  path = write_folder(tmp_path / 'x', X[:2])
  for file in path.iterdir():
    with PIL.Image.open(file) as image:
      image.load()
    image.save(file, kind)  # under a name that ends in .png
  assert open_images(str(path)).codec == kind


def test_pictures_of_two_sizes_are_named(tmp_path):
  path = write_folder(tmp_path / 'x')
  picture(X[0, :3, :4]).save(path / '7.png')
  refused(
    path,
    "'0.png' has 7 x 5 pixels and '7.png' 4 x 3 .1 of 12 are not 7 x 5.: "
    'resize them first',
  )


@pytest.mark.parametrize('damage', ['cut', 'noise', 'empty', 'text'])
@pytest.mark.parametrize('packed', [False, True])
def test_a_broken_picture_is_never_left_out(tmp_path, damage, packed):
  path = write_folder(tmp_path / 'x')
  data = (path / '3.png').read_bytes()
  broken = {'cut': data[:-50], 'noise': b'\0' * 99, 'empty': b'', 'text': b'x'}
  (path / '3.png').write_bytes(broken[damage])
  if packed:
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
      for file in path.iterdir():
        archive.write(file, file.name)
    path = tmp_path / 'x.zip'
  refused(path, "'3.png' cannot be read .*the first of 1 such picture; none")


def test_a_picture_that_changes_meanwhile_is_named(tmp_path):
  path = write_folder(tmp_path / 'x')
  images = open_images(str(path))
  picture(X[0, :3]).save(path / '4.png')
  with pytest.raises(ValueError, match=r"'4.png' .* another size"):
    images[[4]]
  (path / '3.png').unlink()
  message = r"'3.png' cannot be read .*No such.* first of 2 such pictures"
  with pytest.raises(ValueError, match=message):
    images.digest()


@pytest.mark.parametrize('kind', ['gif', 'webp', 'png', 'tif'])
def test_several_pictures_in_a_file_are_refused(tmp_path, kind):
  path = write_folder(tmp_path / 'x', X[:2])
  first, *others = map(picture, X[:3])
  file = path / f'2.{kind}'
  first.save(file, save_all=True, append_images=others)
  refused(path, rf"'2.{kind}' cannot be read \(there are 3 pictures in it")


def test_one_picture_is_no_set(tmp_path):
  path = write_folder(tmp_path / 'x', X[:1])
  refused(path, 'must have at least two, and it has 1')
  refused(path / '0.png', 'a single picture: name the folder')
  np.save(tmp_path / 'x.npy', X[:1])
  refused(tmp_path / 'x.npy', 'must have at least two, and it has 1')


def empty_zip(path):
  zipfile.ZipFile(path, 'w').close()


def empty_tar(path):
  tarfile.open(path, 'w').close()


def zip_of_text(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a.txt', 'x')


def damaged(path):
  write(path)
  path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
  ('name', 'make', 'message'),
  [
    ('x', lambda p: None, 'does not exist'),
    ('x', lambda p: p.mkdir(), 'has no picture .* 0 pictures of 0 files'),
    ('x.zip', empty_zip, 'has no picture'),
    ('x.tar', empty_tar, 'has no picture'),
    ('x.npz', empty_zip, 'without arrays, it is empty'),
    ('x.zip', zip_of_text, 'has no picture .*left out: 1 .txt'),
    ('x.npz', zip_of_text, "without arrays, it has 'a.txt' in it"),
    ('x.zip', damaged, 'damaged .npz or .zip'),
    ('x.npz', damaged, 'damaged .npz or .zip'),
    ('x.npy', damaged, 'not an .npy file'),
    ('x.tar', lambda p: p.write_bytes(b'cut' * 300), 'cannot be read'),
    ('x.txt', lambda p: p.write_text('a text'), "begins with b'a text'"),
    ('x.npz', lambda p: p.write_text('a text'), 'must be a folder of pict'),
    ('x.png', lambda p: p.write_bytes(b''), 'is an empty file'),
    ('x', os.mkfifo, 'not a regular file'),
    (
      'x.tar.gz',
      lambda p: p.write_bytes(gzip.compress(b'x')),
      'compressed as a whole.*gunzip',
    ),
    ('x.pkl', lambda p: p.write_bytes(pickle.dumps({})), 'not executed'),
    ('x.zip/y', lambda p: write(p.parent), 'cannot be read'),
  ],
)
def test_what_has_no_images_is_said_to_be(tmp_path, name, make, message):
  make(tmp_path / name)
  refused(tmp_path / name, message)


def test_no_path_and_no_home():
  for path, message in (('', 'must be a folder'), ('~nobody-x/y', 'no user')):
    with pytest.raises(ValueError, match=message) as caught:
      open_images(path)
    assert str(caught.value).startswith(f'path = {path!r}')


def test_a_home_folder_and_a_relative_path(tmp_path, monkeypatch):
  write_folder(tmp_path / 'x')
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  for path in ('~/x', 'x/', '.'):
    np.testing.assert_array_equal(decoded(path), X)


def test_pictures_of_formats_that_are_not_read_are_not_left_out(tmp_path):
  path = write_folder(tmp_path / 'x')
  (path / '12.HEIC').write_text('x')
  refused(path, 'has 1 .heic, which are pictures that are not read')


def test_content_decides_and_not_a_name(tmp_path):
  for name, other in (('a.npz', 'b.zip'), ('a.npy', 'b.png')):
    write(tmp_path / name).rename(tmp_path / other)
    np.testing.assert_array_equal(decoded(tmp_path / other), X)
  for name, other in (('a.zip', 'b.bin'), ('a.tar', 'b.bin')):
    write(tmp_path / name).rename(tmp_path / other)
    refused(tmp_path / other, f'rename it .* ends in {name[1:]}')


FLOATS = X.astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'arr_0': FLOATS}, r'arr_0 = float32 \[12, 5, 7, 3\] must be uint8: noth'),
    ({'x0': FLOATS.astype(np.float64)}, 'x0 = float64 .* must be uint8'),
    ({'images': X.astype(np.uint16)}, 'images = uint16 .* must be uint8'),
    ({'images': X > 9}, 'images = bool .* must be uint8'),
    ({'arr_0': X.astype(np.int64)}, 'int64 .* must be uint8'),
    ({'arr_0': X[0]}, r'save x\[None\] if it is one image'),
    ({'arr_0': X[..., 0]}, r'save x\[..., None\] if it is grey'),
    ({'arr_0': X.ravel()}, r'\[1260\] must be \[n, h, w, 1 or 3\]$'),
    ({'arr_0': X[None]}, r'must be \[n, h, w, 1 or 3\]$'),
    ({'arr_0': X[..., :2]}, r'composite the images on white'),
    ({'arr_0': np.repeat(GREY, 4, -1)}, r'composite the images on white'),
    ({'arr_0': X.transpose(0, 3, 1, 2)}, r'save x.transpose\(0, 2, 3, 1\)'),
    ({'arr_0': X[:0]}, 'has no pixels'),
    ({'arr_0': X[:, :0]}, 'has no pixels'),
    ({'arr_0': np.array([None, 1])}, 'Object arrays'),
    ({'a': X, 'b': X}, "under one of the names 'arr_0', .* are 'a', 'b'$"),
    ({'arr_0': X, 'images': X}, "has 2: 'arr_0', 'images'"),
    ({'mu': X, 'sigma': X}, 'statistics of features and no images'),
    ({'mean': X, 'covariance': X, 'count': 3}, 'statistics of features'),
    ({'x0': FLOATS * 2}, r'values are not in \[-1, 1\], the first at \[0, '),
    ({'x0': FLOATS / 2 + 0.5}, r'from \S+ to \S+, .* if black is 0, save uint'),
  ],
)
def test_arrays_that_are_no_images(tmp_path, arrays, message):
  np.savez(tmp_path / 'x.npz', **arrays)
  refused(tmp_path / 'x.npz', message)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 1.001])
def test_values_that_are_none_are_counted(tmp_path, monkeypatch, bad):
  monkeypatch.setattr('flowdistill.datasets.image_arrays.AT_ONCE', X[0].size)
  x = FLOATS.copy()
  x[5, 1, 2, 0] = x[7] = bad
  np.savez(tmp_path / 'x.npz', x0=x)
  refused(
    tmp_path / 'x.npz',
    rf'106 of 1,260 values .* the first at \[5, 1, 2, 0\], which is {bad:g}',
  )


def test_other_arrays_beside_the_images(tmp_path):
  """Of ADM: labels in its samples, moments in its references."""
  for k, more in enumerate(
    [{'arr_1': np.arange(N)}, {'mu': np.zeros(4), 'sigma': np.eye(4)}]
  ):
    np.savez_compressed(tmp_path / f'{k}.npz', arr_0=X, **more)
    np.testing.assert_array_equal(decoded(tmp_path / f'{k}.npz'), X)


@pytest.mark.parametrize('key', ['arr_0', 'images', 'samples', 'x0'])
def test_names_of_images(tmp_path, key):
  np.savez(tmp_path / 'x.npz', **{key: X})
  np.testing.assert_array_equal(decoded(tmp_path / 'x.npz'), X)
  assert open_images(str(tmp_path / 'x.npz')).names[3] == f'{key}[3]'


def test_floats_of_ours_are_rounded_as_in_a_png(tmp_path):
  x = np.clip(FLOATS + 0.001, -1, 1)
  np.savez(tmp_path / 'x.npz', x0=x, label=np.arange(N))
  np.testing.assert_array_equal(decoded(tmp_path / 'x.npz'), to_uint8(x))


def test_left_out_is_what_is_no_picture(tmp_path):
  path = write_folder(tmp_path / 'deep' / 'er')
  (path / 'a.txt').write_text('x')
  (path / '.hidden.png').write_text('x')
  np.testing.assert_array_equal(decoded(tmp_path), X)
