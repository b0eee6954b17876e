"""A cache of latents: what is drawn from it, and what of it is refused."""

import json

import numpy as np
import pytest
from datasets.tiny_latents import (
  COUNT,
  SCALE,
  SHARD,
  SHIFT,
  SPEC,
  rows_of,
  scaled,
  write,
)

from flowdistill.datasets.latents import (
  CAPTIONS,
  digest_of,
  latents,
)
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.shards import (
  MANIFEST,
  checksums_of,
  sizes_of,
  write_manifest,
  write_shard,
)


def test_the_spec_and_the_captions_are_carried_over(tmp_path):
  captions = [f'image {i} – ü' for i in range(COUNT)]
  rows = write(tmp_path, captions=captions)
  source = latents(path=str(tmp_path))
  assert source.spec == SPEC
  assert source.pictures == (16, 24, 3)
  assert len(source) == COUNT
  assert source.captions == captions
  index = np.array([24, 3, 10])
  np.testing.assert_allclose(
    source[index]['x0'], scaled(rows['mean'][index]), rtol=1e-6
  )
  np.testing.assert_array_equal(source[index]['label'], index % 3)
  np.testing.assert_array_equal(source.conditions(index)['label'], index % 3)
  one = source[7]
  assert one['x0'].shape == SPEC.shape
  assert one['label'] == 1


def test_noise_is_a_function_of_seed_epoch_and_index(tmp_path):
  rows = write(tmp_path)
  source = latents(path=str(tmp_path))
  index = np.arange(COUNT)

  def draw(epoch, seed=5, index=index):
    return source.draw(index, np.full(len(index), epoch), seed)['x0']

  first = draw(0)
  np.testing.assert_array_equal(draw(0), first)
  np.testing.assert_array_equal(draw(0, index=index[::-1])[::-1], first)
  np.testing.assert_array_equal(draw(0, index=index[4:6]), first[4:6])
  assert not np.isin(draw(1), first).any()
  assert not np.isin(draw(0, seed=6), first).any()
  many = np.stack([draw(epoch) for epoch in range(400)])
  noise = (many / np.float32(SCALE) + SHIFT - rows['mean']) / rows['std']
  assert abs(noise.mean()) < 0.01
  assert abs(noise.std() - 1) < 0.01


@pytest.mark.parametrize('stored', [('sample',), ('mean',)])
def test_one_array_is_the_same_in_every_epoch(tmp_path, stored):
  rows = write(tmp_path, stored)
  source = latents(path=str(tmp_path))
  index = np.arange(COUNT)
  for epoch in (0, 1):
    drawn = source.draw(index, np.full(COUNT, epoch), 5)['x0']
    np.testing.assert_allclose(drawn, scaled(rows[stored[0]]), rtol=1e-6)


def test_without_samples_every_epoch_has_the_means(tmp_path):
  rows = write(tmp_path, flips=True)
  index = np.arange(COUNT)
  plain = latents(path=str(tmp_path), sample=False)
  for epoch in (0, 1):
    drawn = plain.draw(index, np.full(COUNT, epoch), 5)['x0']
    np.testing.assert_array_equal(drawn, plain[index]['x0'])
  either = latents(path=str(tmp_path), sample=False, flip=True)
  drawn = either.draw(index, index, 5)['x0']
  both = [scaled(rows[n]) for n in ('mean', 'mean_flipped')]
  near = [np.isclose(drawn, a).all((1, 2, 3)) for a in both]
  assert (near[0] ^ near[1]).all()
  assert near[0].any() and near[1].any()


def test_half_of_the_examples_are_mirrored_images(tmp_path):
  rows = write(tmp_path, ('sample',), flips=True)
  source = latents(path=str(tmp_path), flip=True)
  both = [scaled(rows[n]) for n in ('sample', 'sample_flipped')]
  index, share = np.arange(COUNT), []
  for epoch in range(40):
    drawn = source.draw(index, np.full(COUNT, epoch), 0)['x0']
    near = [np.isclose(drawn, a).all((1, 2, 3)) for a in both]
    assert (near[0] ^ near[1]).all()
    share.append(near[1].mean())
  assert 0.45 < np.mean(share) < 0.55
  plain = latents(path=str(tmp_path))
  drawn = plain.draw(index, index, 0)['x0']
  np.testing.assert_allclose(drawn, both[0], rtol=1e-6)


def test_batches_do_not_depend_on_the_hosts_nor_on_the_start(tmp_path):
  write(tmp_path)
  source = latents(path=str(tmp_path))

  def batches(n, **how):
    found = make_batches(source, batch_size=10, seed=3, **how)
    return [next(found)['x0'] for _ in range(n)]

  whole = batches(6)
  np.testing.assert_array_equal(batches(2, start=4), whole[4:])
  halves = [batches(6, process=(p, 2)) for p in range(2)]
  for k, batch in enumerate(whole):
    np.testing.assert_array_equal(np.concatenate([h[k] for h in halves]), batch)


def test_mirrored_images_are_read_only_to_be_drawn(tmp_path):
  rows = write(tmp_path, flips=True)
  (tmp_path / '00001.mean_flipped.npy').write_bytes(b'x')
  (tmp_path / '00002.std_flipped.npy').unlink()
  found = latents(path=str(tmp_path))[np.arange(COUNT)]
  np.testing.assert_allclose(found['x0'], scaled(rows['mean']), rtol=1e-6)
  with pytest.raises(ValueError, match=r'mean_flipped\.npy is damaged'):
    latents(path=str(tmp_path), flip=True)


def test_halves_are_scaled_in_float32(tmp_path):
  rows = {n: a.astype('f2') for n, a in rows_of(['mean']).items()}
  rows['label'] = rows['label'].astype(np.int32)
  for k, size in enumerate(sizes_of(COUNT, SHARD)):
    part = {n: a[k * SHARD : k * SHARD + size] for n, a in rows.items()}
    write_shard(tmp_path, k, size, [part])
  other = tmp_path / 'other'
  other.mkdir()
  write(other)
  manifest = json.loads((other / MANIFEST).read_text())
  lists = digest_of([checksums_of(tmp_path, k) for k in range(3)])
  manifest |= {'stored': ['mean'], 'dtype': 'float16', 'lists': lists}
  write_manifest(tmp_path, manifest)
  found = latents(path=str(tmp_path))[np.arange(COUNT)]['x0']
  assert found.dtype == np.float32
  wanted = scaled(rows['mean'].astype('f4'))
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


# --- What is refused ----------------------------------------------------------


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda f: (f / MANIFEST).unlink(), 'no folder of latents, .*--job=encode'),
    (lambda f: (f / '00001.sha256').unlink(), r'00001\.sha256 is missing'),
    (lambda f: (f / '00001.std.npy').unlink(), r'00001\.std\.npy is missing'),
    (
      lambda f: (f / '00002.mean.npy').write_bytes(
        (f / '00001.mean.npy').read_bytes()
      ),
      r'00002\.mean\.npy is damaged: its sha256',
    ),
    (
      lambda f: (f / '00002.label.npy').write_bytes(b'x'),
      r'00002\.label\.npy is damaged',
    ),
    (
      lambda f: (f / '00000.sha256').write_bytes(
        (f / '00001.sha256').read_bytes()
      ),
      'is not the one that --job=encode wrote',
    ),
    (lambda f: (f / CAPTIONS).write_text('[]'), 'is not the one that'),
    (lambda f: (f / CAPTIONS).unlink(), r'captions\.json is missing'),
    (
      lambda f: (f / MANIFEST).write_text('{"format": "flowdistill pairs 2"}'),
      "has the format 'flowdistill pairs 2'; it must be",
    ),
  ],
)
def test_a_cache_that_is_not_as_it_was_written(tmp_path, damage, message):
  write(tmp_path, captions=['a'] * COUNT)
  damage(tmp_path)
  with pytest.raises(ValueError, match=message):
    latents(path=str(tmp_path))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'finished': False}, r'not finished, 3 of 3 shards are there'),
    ({'count': 35}, r'00003\.sha256 is missing'),
    ({'count': 24}, r'mean = float32 \[5, 2, 3, 4\], which must be'),
    ({'dtype': 'float16'}, r'mean = float32 .*, which must be float16'),
    ({'stored': ['sample']}, 'a shard has no sample, which must be'),
  ],
)
def test_a_manifest_of_other_shards(tmp_path, change, message):
  write(tmp_path)
  manifest = json.loads((tmp_path / MANIFEST).read_text())
  write_manifest(tmp_path, {**manifest, **change})
  with pytest.raises(ValueError, match=message):
    latents(path=str(tmp_path))


@pytest.mark.parametrize(
  'change',
  [
    {'stored': ['std']},
    {'dtype': 'int8'},
    {'count': 0},
    {'count': 2.5},
    {'scale': [1.0, 2.0]},
    {'scale': 'x'},
    {'shift': None},
    {'spec': {}},
    {'pictures': ['a']},
    {'shard_size': -1},
  ],
)
def test_a_manifest_with_values_that_cannot_be(tmp_path, change):
  write(tmp_path)
  manifest = json.loads((tmp_path / MANIFEST).read_text())
  write_manifest(tmp_path, {**manifest, **change})
  with pytest.raises(ValueError, match=r'manifest\.json (has|was not)'):
    latents(path=str(tmp_path))


def test_options_that_cannot_be(tmp_path):
  write(tmp_path)
  with pytest.raises(ValueError, match="path = '' must be a folder of latents"):
    latents()
  with pytest.raises(ValueError, match=r'flip = True needs: .*flips=True'):
    latents(path=str(tmp_path), flip=True)
  (samples := tmp_path / 'samples').mkdir()
  write(samples, ('sample',))
  with pytest.raises(ValueError, match=r'sample = False needs: make another'):
    latents(path=str(samples), sample=False)


def test_without_verification_only_sizes_are_checked(tmp_path):
  write(tmp_path)
  file = tmp_path / '00001.mean.npy'
  data = bytearray(file.read_bytes())
  data[-1] ^= 1
  file.write_bytes(data)
  latents(path=str(tmp_path), verify=False)
  with pytest.raises(ValueError, match='is damaged'):
    latents(path=str(tmp_path))
  file.write_bytes(data[:-4])
  with pytest.raises(ValueError, match=r'00001\.mean\.npy is not an \.npy'):
    latents(path=str(tmp_path), verify=False)
