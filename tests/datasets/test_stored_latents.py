"""Latents in tar shards are those of their cache, and nothing else."""

import io
import itertools

import numpy as np
import pytest
from datasets import tiny_latents
from datasets.tiny_latents import COUNT, SPEC
from datasets.tiny_shards import Numbers
from datasets.tiny_shards import write as write_tar

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.index_files import make_index
from flowdistill.datasets.latents import STORED, latents
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.shard_writer import write_shards
from flowdistill.datasets.shards import MANIFEST, write_manifest
from flowdistill.datasets.stored_latents import ALL_KEYS
from flowdistill.datasets.webdataset import webdataset

CAPTIONS = [f'number {k}' for k in range(COUNT)]


def write(tmp_path, stored, **more):
  """The cache, and the folder of its shards."""
  cache, folder = tmp_path / 'cache', tmp_path / 'shards'
  cache.mkdir()
  folder.mkdir()
  tiny_latents.write(cache, stored, captions=CAPTIONS, **more)
  source = latents(path=str(cache))
  about(folder, source.manifest)
  write_shards(source, folder, kind='webdataset', per_shard=10)
  return source, folder


def about(folder, manifest, **more):
  """Writes what latents are of, beside their shards."""
  record = {key: manifest.get(key) for key in ALL_KEYS}
  write_manifest(folder, {'latents': {**record, **more}})


@pytest.mark.parametrize('stored', STORED)
def test_by_index_they_are_those_of_the_cache(tmp_path, stored):
  """And so is the noise of each, in each epoch."""
  cache, folder = write(tmp_path, stored)
  found = webdataset(path=str(folder), latents=True)
  assert (len(found), found.spec.shape) == (COUNT, SPEC.shape)
  assert found.pictures == cache.pictures
  assert found.manifest['space'] == cache.manifest['space']
  assert [*found.captions] == CAPTIONS
  index, epoch = np.asarray([3, 24, 0]), np.asarray([0, 5, 1])
  np.testing.assert_array_equal(found[index]['x0'], cache[index]['x0'])
  np.testing.assert_array_equal(found[3]['x0'], cache[3]['x0'])
  for seed in (0, 1):
    np.testing.assert_array_equal(
      found.draw(index, epoch, seed)['x0'],
      cache.draw(index, epoch, seed)['x0'],
    )


def stream(folder, **options):
  options = {'index': False, 'buffer': 6, 'latents': True, **options}
  return webdataset(path=str(folder), **options).encoded_by(Numbers())


def read(source, count, **options):
  batches = make_batches(source, batch_size=5, seed=2, **options)
  return [*itertools.islice(batches, count)]


def test_a_stream_draws_from_mean_and_std(tmp_path):
  """With other noise in each epoch, the same after it is continued."""
  cache, folder = write(tmp_path, ('mean', 'std'))
  whole = read(stream(folder), 20)
  again = read(stream(folder), 2, start=7)
  for batch, late in zip(whole[7:9], again, strict=True):
    for name, array in batch.items():
      np.testing.assert_array_equal(array, late[name])
  number = np.concatenate([batch['number'] for batch in whole])
  x0 = np.concatenate([batch['x0'] for batch in whole])
  assert {*number[:COUNT].tolist()} == {*range(COUNT)}
  rows = cache.stored(number)
  scale = np.asarray(cache.manifest['scale'], np.float32)
  noise = (x0 - cache[number]['x0']) / (rows['std'] * scale)
  assert np.abs(noise.mean()) < 0.1  # of 2,400 numbers
  assert np.abs(noise.std() - 1) < 0.1
  first, second = (x0[number == 4][k] for k in (0, 1))
  assert np.abs(first - second).max() > 1e-3


def test_one_array_is_the_same_in_every_epoch_of_a_stream(tmp_path):
  cache, folder = write(tmp_path, ('sample',))
  for batch in read(stream(folder), 11):
    np.testing.assert_array_equal(batch['x0'], cache[batch['number']]['x0'])


def npy(array):
  file = io.BytesIO()
  np.save(file, array)
  return file.getvalue()


def npz(**arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


GOOD = np.ones(SPEC.shape, np.float32)
LARGE = np.ones((100, *SPEC.shape), np.float32)
NAN = np.where(np.arange(GOOD.size).reshape(GOOD.shape) == 3, np.nan, GOOD)
BAD = {
  'nan': (npy(NAN.astype('f4')), 'not finite: 1 of 24 numbers of mean'),
  'shape': (npy(GOOD[:1]), r'mean = float32 \[1, 3, 4\], which must be'),
  'dtype': (npy(GOOD.astype('f8')), r'mean = float64 \[2, 3, 4\], which'),
  'order': (npy(np.asfortranarray(GOOD)), 'in the order of Fortran, which'),
  'objects': (npy(np.asarray(GOOD, object)), 'mean = object'),
  'cut': (npy(GOOD)[:-4], 'are cut, or longer'),
  'more': (npy(GOOD) + b'more', 'are cut, or longer'),
  'text': (b'these are no latents', 'are no .npy file'),
  'empty': (b'', 'are no .npy file|it is empty'),
}
BAD_ZIP = {
  'no std': (npz(mean=GOOD), 'cannot be read: .*std.npy'),
  'long': (npz(mean=GOOD, std=LARGE), 'std is too long'),
  'nan': (npz(mean=GOOD, std=NAN.astype('f4')), '1 of 24 numbers of std'),
  'cut': (npz(mean=GOOD, std=GOOD)[:-30], 'cannot be read'),
  'npy': (npy(GOOD), 'cannot be read'),
}
KINDS = [('npy', name) for name in BAD] + [('npz', name) for name in BAD_ZIP]


@pytest.mark.parametrize(('kind', 'name'), KINDS)
def test_damaged_latents_are_left_out_and_named(tmp_path, kind, name, caplog):
  data, message = (BAD if kind == 'npy' else BAD_ZIP)[name]
  good = npy(GOOD) if kind == 'npy' else npz(mean=GOOD, std=GOOD)
  members = []
  for k, file in enumerate((good, data, good)):
    members += [(f'{k}.{kind}', file), (f'{k}.txt', b'number %d' % k)]
  shard = write_tar(tmp_path / 's.tar', members)
  stored = ['mean'] if kind == 'npy' else ['mean', 'std']
  about(tmp_path, {**MANIFEST_OF, 'stored': stored})
  source = stream(tmp_path, num_samples=3, max_broken=0.4)
  numbers = [batch['number'] for batch in read(source, 3)]
  assert {*np.concatenate(numbers)} == {0, 2}
  make_index(str(shard))
  found = webdataset(path=str(tmp_path), latents=True, max_broken=0.4)
  assert found.draw(np.arange(3), np.zeros(3, int), 0)['x0'].shape[0] == 3
  (reason,) = found.broken.values()
  with pytest.raises(ValueError, match=message):
    raise ValueError(reason)
  assert caplog.text.count("'s.tar/1' is left out: ") == 2
  strict = webdataset(path=str(tmp_path), latents=True)
  with pytest.raises(ValueError, match=rf"1 of 3 .*'s.tar/1' .*{message}"):
    strict[1]


MANIFEST_OF = {
  'spec': SPEC.to_json(),
  'pictures': [16, 24, 3],
  'stored': ['mean'],
  'dtype': 'float32',
  'space': {'name': 'kl'},
  'scale': 1.0,
  'shift': 0.0,
  'weights_sha256': 'a',
  'lists': 'b',
}


def test_samples_without_latents_are_named(tmp_path):
  members = [('a.png', b'no'), ('a.txt', b'number 1')]
  make_index(str(write_tar(tmp_path / 's.tar', members)))
  about(tmp_path, MANIFEST_OF)
  with pytest.raises(ValueError, match='1 with no latents'):
    webdataset(path=str(tmp_path), latents=True)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'stored': ['std']}, 'has values that cannot be'),
    ({'dtype': 'int8'}, 'has values that cannot be'),
    ({'scale': [1.0, 2.0]}, 'has values that cannot be'),
    ({'spec': {'shape': 3}}, 'has values that cannot be'),
    ({'pictures': [0, 1, 2]}, 'has values that cannot be'),
    ({'space': 'kl'}, "'space' must be an object"),
    ({'lists': None}, "'lists' must be a text"),
  ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path, change, message):
  write_tar(tmp_path / 's.tar', [])
  about(tmp_path, MANIFEST_OF, **change)
  with pytest.raises(ValueError, match=message):
    webdataset(path=str(tmp_path), latents=True)


def test_latents_need_the_manifest_of_their_encoder(tmp_path):
  for name in 'ab':
    (tmp_path / name).mkdir()
    write_tar(tmp_path / name / 's.tar', [])
  path = f'{tmp_path}/{{a,b}}/s.tar'
  with pytest.raises(ValueError, match='there is no .*/a/manifest.json, which'):
    webdataset(path=path, latents=True)
  write_manifest(tmp_path / 'a', {'format': 'webdataset'})
  with pytest.raises(ValueError, match='manifest.json does not say what made'):
    webdataset(path=path, latents=True)
  about(tmp_path / 'a', MANIFEST_OF)
  about(tmp_path / 'b', MANIFEST_OF, weights_sha256='b')
  with pytest.raises(ValueError, match='/b/manifest.json are not made as'):
    webdataset(path=path, latents=True)
  (tmp_path / 'b' / MANIFEST).write_text('{')
  with pytest.raises(ValueError, match='/b/manifest.json is cut'):
    webdataset(path=path, latents=True)
  with pytest.raises(ValueError, match='no manifest.json beside .pipe:true'):
    webdataset(path='pipe:true', commands=True, latents=True)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 32}, 'size = 32 has no effect with latents'),
    ({'resize': 'adm'}, "resize = 'adm' has no effect with latents"),
    ({'buckets': Buckets()}, 'buckets = .* has no effect with latents'),
    ({'image': 'png'}, "image = 'png' must be the ending of latents"),
  ],
)
def test_options_of_pictures_are_refused(tmp_path, options, message):
  write_tar(tmp_path / 's.tar', [])
  about(tmp_path, MANIFEST_OF)
  with pytest.raises(ValueError, match=message):
    webdataset(path=str(tmp_path), latents=True, **options)


def test_what_cannot_be_written_is_refused(tmp_path):
  cache, folder = write(tmp_path, ('mean',))
  with pytest.raises(ValueError, match='latents, which parquet does not hold'):
    write_shards(cache, folder, kind='parquet', per_shard=9)
  cache.flip = True
  with pytest.raises(ValueError, match='flip = True has no effect: mirrored'):
    write_shards(cache, folder, kind='webdataset', per_shard=9)
  found = webdataset(path=str(folder), latents=True)
  with pytest.raises(ValueError, match='are in shards already'):
    write_shards(found, folder, kind='webdataset', per_shard=9)
