"""Captioned pictures in tar shards with an index: random access to each."""

import itertools
import json
import os
import tarfile
import tracemalloc

import numpy as np
import pytest
from datasets import tiny_shards
from datasets.tiny_shards import png, sample, write, write_shards

from flowdistill.datasets import index_files
from flowdistill.datasets.index_files import (
  index_path,
  make_index,
  read_index,
)
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.shard_index import Index, as_bytes
from flowdistill.datasets.split import hash_of, is_member
from flowdistill.datasets.stream import Stream
from flowdistill.datasets.webdataset import webdataset


@pytest.fixture
def folder(tmp_path):
  """Three indexed shards of 5, 7 and 4 samples."""
  for shard in write_shards(tmp_path, [5, 7, 4]):
    make_index(str(shard))
  return tmp_path


def opened(path, members, **options):
  """The source of one shard with these members, which is indexed."""
  shard = write(path / 'one.tar', members)
  make_index(str(shard))
  return webdataset(path=str(shard), size=8, **options)


def test_pictures_and_captions_are_those_of_the_shards(folder):
  source = webdataset(path=str(folder / 'a-{0..2}.tar'), size=8)
  assert not isinstance(source, Stream)
  assert len(source) == len(source.captions) == 16
  for k in range(16):
    np.testing.assert_array_equal(source[k]['x0'], tiny_shards.x0(k))
    assert source.captions[k] == f'number {k}'
  assert [*source.captions] == source.captions[:]
  assert source.captions[-1] == 'number 15'
  assert source.captions[4:6] == ['number 4', 'number 5']
  with pytest.raises(IndexError):
    source.captions[16]
  batch = source[np.asarray([3, 11])]
  assert set(batch) == {'x0'}
  np.testing.assert_array_equal(batch['x0'][1], tiny_shards.x0(11))


def test_a_folder_is_all_of_its_shards_in_order(folder):
  by_folder, by_braces = (
    webdataset(path=str(path), size=8)
    for path in (folder, folder / 'a-{0,1,2}.tar')
  )
  assert [*by_folder.captions] == [*by_braces.captions]


def order(source, process, start, count):
  """The captions of a process's batches of 4."""
  return [
    [batch_caption(x) for x in batch['x0']]
    for batch in itertools.islice(
      make_batches(source, batch_size=4, seed=1, start=start, process=process),
      count,
    )
  ]


def batch_caption(x):
  return round((x[0, 0, 0] + 1) * 127.5)


def test_it_goes_on_in_the_middle_of_a_shard_on_other_hosts(folder):
  """Elastic: one host, then two, then one; and exact in each epoch."""
  source = webdataset(path=str(folder), size=8)
  whole = order(source, (0, 1), 0, 8)
  first = order(source, (0, 1), 0, 3)
  two = [order(source, (p, 2), 3, 2) for p in (0, 1)]
  middle = [a + b for a, b in zip(*two, strict=True)]
  last = order(source, (0, 1), 5, 3)
  assert [*first, *middle, *last] == whole
  for epoch in (whole[:4], whole[4:]):
    assert sorted(np.ravel(epoch).tolist()) == [*range(16)]


def test_the_splits_share_out_the_samples_by_their_keys(tmp_path):
  (shard,) = write_shards(tmp_path, [200])
  make_index(str(shard))
  parts = {
    split: {*webdataset(path=str(shard), size=8, split=split).captions}
    for split in ('all', 'train', 'validation')
  }
  assert parts['train'] | parts['validation'] == parts['all']
  assert not parts['train'] & parts['validation']
  held = {
    f'number {k}' for k in range(200) if is_member(f'{k:04d}', 'validation')
  }
  assert parts['validation'] == held
  (tmp_path / 'held').write_text('0007\n0011\n')
  source = webdataset(
    path=str(shard),
    size=8,
    split='validation',
    held_out=str(tmp_path / 'held'),
  )
  assert [*source.captions] == ['number 7', 'number 11']
  stream = webdataset(path=str(shard), size=8, index=False, split='validation')
  assert stream.reader.count(str(shard)) == len(held)
  read = stream.reader.read(str(shard), None, None)
  assert {each.text.decode() for each in read} == held


def test_captions_come_from_json_under_a_key(tmp_path):
  record = json.dumps({'caption': 'sœur 🙂', 'long': 'a sister'}).encode()
  members = [('a.jpg', png(1)), ('a.json', record)]
  assert [*opened(tmp_path, members).captions] == ['sœur 🙂']
  assert [*opened(tmp_path, members, json_key='long').captions] == ['a sister']


def test_one_of_two_pictures_or_captions_is_chosen(tmp_path):
  members = [
    ('a.png', png(1)),
    ('a.mask.png', png(2)),
    ('a.txt', b'text'),
    ('a.json', b'{"caption": "json"}'),
    ('a.cls', b'7'),
  ]
  with pytest.raises(ValueError, match='two pictures; choose one by image'):
    opened(tmp_path, members)
  with pytest.raises(ValueError, match='two captions; choose one by caption'):
    opened(tmp_path, members, image='png')
  for text in ('txt', 'json'):
    source = opened(tmp_path, members, image='mask.png', caption=text)
    assert [*source.captions] == [text.replace('txt', 'text')]
    np.testing.assert_array_equal(source[0]['x0'], tiny_shards.x0(2))


BAD = {
  'missing caption': (
    [('b.png', png(9))],
    "1 with no caption, such as 'one.tar/b'",
  ),
  'missing picture': ([('b.txt', b'b')], '1 with no picture'),
  'two captions': (
    [('b.png', png(9)), ('b.txt', b'b'), ('b.json', b'{}')],
    '1 with two captions',
  ),
  'one caption twice': (
    [('b.png', png(9)), ('b.txt', b'b'), ('b.txt', b'c')],
    '1 with two captions',
  ),
  'path traversal': (
    [('../../b.png', png(9)), ('../../b.txt', b'b')],
    "1 with a name that leads out of the shard, such as 'one.tar/../../b'",
  ),
  'absolute path': (
    [('/etc/b.png', png(9)), ('/etc/b.txt', b'b')],
    '1 with a name that leads out of the shard',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_samples_that_are_none_are_left_out_and_named(tmp_path, name, caplog):
  members, message = BAD[name]
  members = [*sample(1), *members, *sample(2)]
  with pytest.raises(ValueError, match=message):
    opened(tmp_path, members)
  caplog.set_level('INFO', logger='absl')
  source = opened(tmp_path, members, max_broken=0.5)
  assert [*source.captions] == ['number 1', 'number 2']
  assert f'left out: {message}' in caplog.text
  assert [path.name for path in tmp_path.iterdir()] == [
    *sorted(['one.tar', 'one.tar.index.npz'], key=len)
  ] or len([*tmp_path.iterdir()]) == 2  # nothing was unpacked


def test_a_link_is_not_followed(tmp_path):
  shard = tmp_path / 'one.tar'
  with tarfile.open(shard, 'w') as tar:
    for name, target in (('b.png', '/etc/passwd'), ('b.txt', '/etc/passwd')):
      info = tarfile.TarInfo(name)
      info.type, info.linkname = tarfile.SYMTYPE, target
      tar.addfile(info)
  make_index(str(shard))
  with pytest.raises(ValueError, match='1 with a link, a device or a sparse'):
    webdataset(path=str(shard), size=8)


BROKEN = {
  'no picture in it': ([('b.png', b'no'), ('b.txt', b'b')], 'not a picture'),
  'broken JSON': ([('b.png', png(9)), ('b.json', b'{"cap')], 'JSON is broken'),
  'JSON of numbers': ([('b.png', png(9)), ('b.json', b'[1]')], 'not an object'),
  'JSON without the key': (
    [('b.png', png(9)), ('b.json', b'{"text": "b"}')],
    "no key 'caption'; there are 'text'",
  ),
  'JSON with a number': (
    [('b.png', png(9)), ('b.json', b'{"caption": 3}')],
    'is int and not a text',
  ),
  'half of a surrogate pair': (
    [('b.png', png(9)), ('b.json', b'{"caption": "\\ud800"}')],
    'surrogate',
  ),
  'no UTF-8': ([('b.png', png(9)), ('b.txt', b'\xff\xfe')], 'not UTF-8'),
  'a long caption': (
    [('b.png', png(9)), ('b.txt', b'b' * (2**20 + 1))],
    'bytes of its caption are over',
  ),
}


@pytest.mark.parametrize('name', BROKEN)
def test_another_sample_takes_the_place_of_a_broken_one(tmp_path, name, caplog):
  """Its picture and its caption, whichever of the two was broken."""
  members, message = BROKEN[name]
  members = [*sample(1), *members, *sample(2)]
  source = opened(tmp_path, members, max_broken=0.4)
  assert len(source) == 3
  for index, number in ((0, 1), (1, 2), (2, 2)):
    np.testing.assert_array_equal(source[index]['x0'], tiny_shards.x0(number))
    assert source.captions[index] == f'number {number}'
  assert caplog.text.count(message) == 1
  strict = opened(tmp_path, members)
  with pytest.raises(ValueError, match='1 of 3 .* more than max_broken = 0.01'):
    strict[1]


def test_captions_of_many_forms_stay_as_they_are(tmp_path):
  captions = ['', ' a  b ', 'x' * 10_000, 'شكرا', '👩‍🚒', 'a\nb', 'null']
  members = [
    member
    for k, caption in enumerate(captions)
    for member in ((f'{k}.png', png(k)), (f'{k}.txt', caption.encode() + b'\n'))
  ]
  assert [*opened(tmp_path, members).captions] == captions


def test_an_index_of_another_state_of_the_shard_is_refused(folder):
  shard = folder / 'a-1.tar'
  os.utime(shard, ns=(0, 0))
  message = 'a-1.tar.index.npz.* is stale: .* --job=index --path='
  with pytest.raises(ValueError, match=message):
    webdataset(path=str(folder), size=8)
  with pytest.raises(ValueError, match='is stale'):
    webdataset(path=str(folder), size=8, index=True)
  make_index(str(shard))
  assert len(webdataset(path=str(folder), size=8)) == 16


def test_a_shard_that_was_cut_after_it_was_indexed_is_refused(folder):
  os.truncate(folder / 'a-1.tar', 3000)
  with pytest.raises(ValueError, match='is stale'):
    webdataset(path=str(folder), size=8)
  with pytest.raises(ValueError, match='cannot be indexed.*cut or damaged'):
    make_index(str(folder / 'a-1.tar'))


def test_a_shard_that_is_cut_while_it_is_read_is_named(folder):
  source = webdataset(path=str(folder), size=8, max_broken=1)
  os.truncate(folder / 'a-2.tar', 3000)
  np.testing.assert_array_equal(source[15]['x0'], tiny_shards.x0(0))
  (reason,) = source.broken.values() if len(source.broken) == 1 else ('',)
  assert 'its shard ends before byte' in (reason or str(source.broken))


def test_some_indices_are_not_enough(folder):
  index_path(str(folder / 'a-0.tar')).unlink()
  with pytest.raises(ValueError, match='1 shard of 3 have no index.*job=index'):
    webdataset(path=str(folder), size=8)


def test_without_an_index_it_is_a_stream_or_refused(folder):
  for path in folder.glob('*.npz'):
    path.unlink()
  assert isinstance(webdataset(path=str(folder), size=8), Stream)
  with pytest.raises(ValueError, match='index = True: .* have none; make'):
    webdataset(path=str(folder), size=8, index=True)


def test_an_empty_shard_has_no_sample(tmp_path):
  with pytest.raises(ValueError, match='has no sample'):
    opened(tmp_path, [])
  (tmp_path / 'zero.tar').touch()
  with pytest.raises(ValueError, match='cannot be indexed'):
    make_index(str(tmp_path / 'zero.tar'))


LIKELY = ('keys', 'hashes', 'place', 'shape')
"""Of which other values may be right, too."""


@pytest.mark.parametrize('name', [*index_files.ARRAYS])
def test_a_damaged_index_is_refused(folder, name):
  shard = str(folder / 'a-0.tar')
  arrays = dict(vars(read_index(shard)))
  for change in (
    lambda a: a[:-1],
    lambda a: a.astype(np.float32),
    lambda a: a + np.asarray(200, a.dtype),
  ):
    changed = {**arrays, name: change(arrays[name])}
    same = changed[name].shape, changed[name].dtype
    if same == (arrays[name].shape, arrays[name].dtype) and name in LIKELY:
      continue
    np.savez(index_path(shard).with_suffix('.new'), **changed)
    index_path(shard).with_suffix('.new.npz').rename(index_path(shard))
    with pytest.raises(ValueError, match='make it again by'):
      index = read_index(shard)
      [index.key(k) for k in range(len(index))]
  index_path(shard).write_bytes(b'PK\3\4 no')
  with pytest.raises(ValueError, match='is no index'):
    read_index(shard)


def test_the_bytes_of_an_index_depend_on_the_shard_alone(folder):
  path = index_path(str(folder / 'a-0.tar'))
  before = path.read_bytes()
  make_index(str(folder / 'a-0.tar'))
  assert path.read_bytes() == before


def test_what_webdataset_writes_is_read(tmp_path):
  from webdataset.writer import ShardWriter

  with ShardWriter(str(tmp_path / 'w-%03d.tar'), maxcount=2, verbose=0) as out:
    for k in range(5):
      out.write({'__key__': f'x/{k}', 'png': png(k), 'txt': f'number {k}'})
  for shard in tmp_path.glob('*.tar'):
    make_index(str(shard))
  source = webdataset(path=str(tmp_path), size=8)
  assert [*source.captions] == [f'number {k}' for k in range(5)]


def of_a_million(folder):
  """A hundred shards with the same sample 10 000 times each, by their index."""
  n = 10_000
  for shard in range(100):
    path = write(folder / f'm-{shard:02d}.tar', sample(shard))
    real = make_index(str(path))
    keys = [f'{shard:02d}{k:04d}' for k in range(n)]
    index = Index(
      real.stamp,
      np.frombuffer(''.join(keys).encode(), np.uint8),
      np.arange(6, 6 * n + 6, 6),
      np.asarray([hash_of(key) for key in keys], np.uint64),
      as_bytes(['']),
      np.zeros(n, np.int32),
      real.endings,
      np.repeat(np.arange(n, dtype=np.int32), 2),
      np.tile(np.asarray([0, 1], np.int32), n),
      np.tile(real.place, (n, 1)),
      np.tile(real.shape, (n, 1)),
    )
    with open(index_path(str(path)), 'wb') as file:
      np.savez(file, **vars(index))


@pytest.mark.slow
def test_memory_is_bounded_over_a_million_samples(tmp_path):
  """Some 100 bytes for each, and none for what was read."""
  of_a_million(tmp_path)
  tracemalloc.start()
  try:
    source = webdataset(path=str(tmp_path), size=8, split='train')
    held, _ = tracemalloc.get_traced_memory()
    batches = make_batches(source, batch_size=256, seed=0)
    for batch in itertools.islice(batches, 20):
      assert len(batch['x0']) == 256
    source.captions[len(source) - 1]
    after, _ = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert len(source) == pytest.approx(900_000, rel=0.01)
  assert held < 150e6
  assert after - held < 60e6  # the orders of two epochs, and batches ahead
