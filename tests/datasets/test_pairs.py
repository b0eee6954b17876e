"""Pairs by index: of stores, and of SlimFlow's folders."""

import json

import jax
import numpy as np
import pytest

from flowdistill.datasets.pairs import (
  FORMAT,
  first_noise,
  numbers,
  open_store,
  read_manifest,
)
from flowdistill.datasets.shards import write_manifest, write_shard
from flowdistill.datasets.slimflow import is_slimflow, open_slimflow
from flowdistill.flow.spec import Condition, DataSpec

RNG = np.random.default_rng(0)
X0, X1 = RNG.normal(size=(2, 7, 2, 3, 1)).astype(np.float32)
LABEL = np.arange(7, dtype=np.int32) % 3
SPEC = DataSpec.labelled((2, 3, 1), 3, ['a', 'b', 'c'])
MADE = {
  'format': FORMAT,
  'finished': True,
  'spec': SPEC.to_json(),
  'count': 7,
  'shard_size': 3,
  'seed': 5,
  'noise': 'drawn',
  'first_noise': first_noise(5, (2, 3, 1)),
}


def store(folder, extra=None, **changed):
  """Three shards, of 3, 3 and 1 pairs; `extra` is an array `text`."""
  made = {**MADE, **changed}
  for k in range(3):
    rows = slice(3 * k, min(3 * k + 3, 7))
    arrays = {'x0': X0[rows], 'label': LABEL[rows], 'nfe': LABEL[rows]}
    if made['noise'] == 'stored':
      arrays['x1'] = X1[rows]
    if extra is not None:
      arrays['text'] = extra[rows]
    write_shard(folder, k, len(arrays['x0']), [arrays])
  write_manifest(folder, made)
  return folder


def slimflow(root, *, labels='integers', **changed):
  """Folders 2 and 10, of 4 and 3 pairs: z0 is noise, and z1 is data."""
  for name, rows in (('2', slice(0, 4)), ('10', slice(4, 7))):
    (root / name).mkdir()
    arrays = {
      'z0': X1[rows].transpose(0, 3, 1, 2),
      'z1': X0[rows].transpose(0, 3, 1, 2),
    }
    if labels == 'integers':
      arrays['label'] = LABEL[rows].astype(np.int64)
    if labels == 'one_hot':
      arrays['label'] = np.eye(5, dtype=np.float32)[LABEL[rows]]
    for key, array in {**arrays, **changed}.items():
      np.save(root / name / f'{key}.npy', array)
  return root


def test_noise_is_named_where_it_can_be_drawn_again(tmp_path):
  pairs = open_store(store(tmp_path))
  assert (len(pairs), pairs.spec) == (7, SPEC)
  batch = pairs[np.array([6, 0, 4, 2])]
  assert sorted(batch) == ['label', 'noise', 'x0']
  np.testing.assert_array_equal(batch['x0'], X0[[6, 0, 4, 2]])
  np.testing.assert_array_equal(batch['label'], LABEL[[6, 0, 4, 2]])
  expected = [[5, 6], [5, 0], [5, 4], [5, 2]]
  np.testing.assert_array_equal(batch['noise'], expected)
  assert batch['noise'].dtype == np.uint32


def test_it_is_stored_where_it_cannot(tmp_path):
  batch = open_store(store(tmp_path, noise='stored'))[np.array([5, 1])]
  assert sorted(batch) == ['label', 'x0', 'x1']
  np.testing.assert_array_equal(batch['x1'], X1[[5, 1]])


def test_an_int_is_one_pair(tmp_path):
  pair = open_store(store(tmp_path))[4]
  np.testing.assert_array_equal(pair['x0'], X0[4])
  np.testing.assert_array_equal(pair['noise'], [5, 4])


def test_another_generator_of_noise_is_refused(tmp_path):
  pairs = open_store(store(tmp_path))
  with (
    jax.default_prng_impl('rbg'),
    pytest.raises(ValueError, match='another random number generator'),
  ):
    pairs[0]


def test_one_that_is_not_finished_or_not_ours_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'there is no manifest\.json in it'):
    open_store(tmp_path)
  with pytest.raises(ValueError, match='are not finished'):
    open_store(store(tmp_path, finished=False))
  (tmp_path / 'manifest.json').write_text(json.dumps({'format': 'x'}))
  with pytest.raises(ValueError, match="has the format 'x'"):
    open_store(tmp_path)


def test_a_manifest_of_the_first_format_is_read(tmp_path):
  store(tmp_path)
  path = tmp_path / 'manifest.json'
  manifest = json.loads(path.read_text())
  del manifest['spec']
  first = {'shape': [2, 3, 1], 'num_classes': 3}
  path.write_text(
    json.dumps({**manifest, **first, 'format': 'flowdistill pairs 1'})
  )
  pairs = open_store(tmp_path)
  assert pairs.spec == DataSpec.labelled((2, 3, 1), 3)
  np.testing.assert_array_equal(pairs[5]['noise'], [5, 5])
  assert read_manifest(tmp_path).keys() == {*manifest, 'spec'}


def test_conditions_are_those_of_the_spec(tmp_path):
  text = RNG.normal(size=(7, 4, 2)).astype(np.float32)
  spec = DataSpec((2, 3, 1), {'text': Condition((4, 2))})
  pairs = open_store(store(tmp_path, spec=spec.to_json(), extra=text))
  assert pairs.spec == spec
  index = np.array([6, 0, 4])
  assert sorted(pairs[index]) == ['noise', 'text', 'x0']
  cond = pairs.conditions(index)
  assert cond.keys() == {'text'}
  np.testing.assert_array_equal(cond['text'], text[index])
  assert pairs.conditions(3)['text'].shape == (4, 2)


def test_shards_that_do_not_match_the_spec_are_refused(tmp_path):
  spec = DataSpec((2, 3, 1), {'text': Condition((4, 2))})
  pairs = open_store(store(tmp_path, spec=spec.to_json()))
  with pytest.raises(ValueError, match=r'shard 1: text is missing; it must be'):
    pairs[4]


def test_numbers_go_on_from_their_start():
  np.testing.assert_array_equal(numbers(3, 10, 2), [[3, 10], [3, 11]])


@pytest.mark.parametrize(
  ('label', 'classes'), [('integers', 3), ('one_hot', 5), ('', 0)]
)
def test_folders_of_slimflow(tmp_path, label, classes):
  """In the order of their numbers; noise and data have changed places."""
  root = slimflow(tmp_path, labels=label)
  assert is_slimflow(root)
  pairs = open_slimflow(root)
  assert pairs.spec == DataSpec.labelled((2, 3, 1), classes)
  assert len(pairs) == 7
  batch = pairs[np.array([6, 0, 4])]
  np.testing.assert_array_equal(batch['x0'], X0[[6, 0, 4]])
  np.testing.assert_array_equal(batch['x1'], X1[[6, 0, 4]])
  if label:
    np.testing.assert_array_equal(batch['label'], LABEL[[6, 0, 4]])
    assert batch['label'].dtype == np.int32


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'z1': X0[:2].transpose(0, 3, 1, 2)},
      r'have the shape of z1\.npy, \[2, 2, 3, 1\]',
    ),
    ({'z0': X0.astype(np.float64)}, r'z0\.npy = float64'),
    ({'z0': X0[:, 0]}, r'must be float32 \[n, c, h, w\]'),
    ({'label': LABEL[:1]}, r'label\.npy has 1 rows and must'),
    ({'z0': np.array([{}], dtype=object)}, r'z0\.npy cannot be read'),
  ],
)
def test_folders_that_are_wrong_name_the_file(tmp_path, changed, message):
  root = slimflow(tmp_path, **changed)
  with pytest.raises(ValueError, match=message):
    open_slimflow(root)


def test_labels_are_in_all_folders_or_in_none(tmp_path):
  root = slimflow(tmp_path)
  (root / '2' / 'label.npy').unlink()
  with pytest.raises(ValueError, match='in all of its folders or in none'):
    open_slimflow(root)


def test_a_folder_without_noise_is_not_slimflow(tmp_path):
  assert not is_slimflow(tmp_path)


FLAWS = {
  "has 'count': 0, which must": {'count': 0},
  "'count' must be an integer, and is a number": {'count': 7.5},
  "has 'seed': -1, which must": {'seed': -1},
  "has 'shard_size': 0": {'shard_size': 0},
  "has 'noise': 'drawm'": {'noise': 'drawm'},
  "has 'direction': 'up'": {'direction': 'up'},
  "'finished' must be true or false": {'finished': 'yes'},
  "has a 'spec' that": {'spec': {}},
  "has a 'first_noise' of": {'first_noise': [1.0]},
  "has a 'spec' that cannot be read: TypeError": {'first_noise': None},
}


@pytest.mark.parametrize('flaw', FLAWS)
def test_a_manifest_that_is_none_is_named(flaw, tmp_path):
  """By its form, where it has no checksum."""
  text = json.dumps({'format': 'flowdistill pairs 2', **MADE, **FLAWS[flaw]})
  (tmp_path / 'manifest.json').write_text(text)
  with pytest.raises(ValueError, match=f'{tmp_path}/manifest.json .*{flaw}'):
    open_store(tmp_path)


def test_every_flip_of_a_manifest_is_found(tmp_path):
  path = store(tmp_path) / 'manifest.json'
  content, rng = path.read_bytes(), np.random.default_rng(1)
  for at in rng.integers(8 * (len(content) - 1), size=300):
    flipped = bytearray(content)
    flipped[at // 8] ^= 1 << at % 8
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match='manifest.json'):
      read_manifest(tmp_path)


def test_noise_that_is_stored_must_be_there(tmp_path):
  pairs = open_store(store(tmp_path, noise='stored'))
  text = (tmp_path / '00000.sha256').read_text().splitlines()
  text = '\n'.join(line for line in text if '.x1.' not in line)
  (tmp_path / '00000.sha256').write_text(f'{text}\n')
  with pytest.raises(ValueError, match='shard 0 has no x1'):
    pairs[0]
