"""What `--job=generate` writes, as a set of images."""

import json

import numpy as np
import pytest

from flowdistill.datasets.image_set import open_images
from flowdistill.figures.samples import file_names, write_samples
from flowdistill.flow.pixels import to_uint8
from flowdistill.workdir.swap import mark

N = 12
X = np.random.default_rng(0).normal(size=(N, 4, 4, 3)).astype(np.float32)


def generate(folder, *forms, x=X):
  folder.mkdir(parents=True, exist_ok=True)
  for _ in write_samples(folder, len(x), [x[:7], x[7:]], forms):
    pass
  mark(folder, file_names(len(x), forms, x.shape), {'step': 5})
  return folder


@pytest.mark.parametrize('forms', [['npz'], ['png'], ['npz', 'png', 'grid']])
def test_a_folder_is_its_samples(tmp_path, forms):
  images = open_images(str(generate(tmp_path, *forms)))
  np.testing.assert_array_equal(images[np.arange(N)], to_uint8(X))


def test_the_arrays_are_the_pictures(tmp_path):
  """Values outside of [-1, 1] are clipped as in the pictures."""
  folder = generate(tmp_path, 'npz', 'png', 'grid')
  one, other = open_images(str(folder)), open_images(f'{folder}/samples.npz')
  assert one.digest() == other.digest()
  assert (one.codec, other.codec) == ('png', 'none')


def test_a_file_that_was_moved_must_be_in_range(tmp_path):
  file = generate(tmp_path / 'x', 'npz') / 'samples.npz'
  file.rename(tmp_path / 'samples.npz')
  with pytest.raises(ValueError, match=r'values are not in \[-1, 1\]'):
    open_images(str(tmp_path / 'samples.npz'))


def test_samples_that_are_no_numbers(tmp_path):
  x = X.copy()
  x[3, 0, 1, 2] = np.nan
  folder = generate(tmp_path, 'npz', x=x)
  with pytest.raises(ValueError, match=r'1 of 576 .*finite.* \[3, 0, 1, 2\]'):
    open_images(str(folder))


@pytest.mark.parametrize('name', ['00003.png', '00012.png', 'mine.png'])
def test_missing_and_other_pictures(tmp_path, name):
  folder = generate(tmp_path, 'png', 'grid')
  if name == '00003.png':
    (folder / name).unlink()
  else:
    (folder / name).write_bytes((folder / '00000.png').read_bytes())
  state = 'is missing' if name == '00003.png' else 'is another'
  with pytest.raises(ValueError, match=f'the 12 pictures .*{name}. {state}'):
    open_images(str(folder))


@pytest.mark.parametrize('form', ['png', 'npz'])
def test_several_checkpoints(tmp_path, form):
  for step in ('00000500', '00001000'):
    generate(tmp_path / step, form)
  with pytest.raises(ValueError, match=r'one checkpoint; .*00000500'):
    open_images(str(tmp_path))
  assert len(open_images(str(tmp_path / '00001000'))) == N


def test_a_list_that_is_not_ours(tmp_path):
  """Such as one of another program: the pictures are read as any others."""
  folder = generate(tmp_path, 'png')
  for text in ('', '[]', '{"files": 3}', json.dumps({'files': {'x': 'y'}})):
    (folder / 'generated.json').write_text(text)
    assert len(open_images(str(folder))) == N
