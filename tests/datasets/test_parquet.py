"""Captioned pictures in parquet files."""

import importlib
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import tiny_shards
from datasets.tiny_columns import table
from datasets.tiny_shards import png

from flowdistill.datasets.parquet import parquet
from flowdistill.datasets.pipeline import make_batches

MODULE = importlib.import_module('flowdistill.datasets.parquet')


@pytest.fixture
def folder(tmp_path):
  """A partitioned folder with row groups of 3, of 5, 8 and 2 rows."""
  first = 0
  for name, size in (('lang=de/a', 5), ('lang=en/b', 8), ('lang=en/c', 2)):
    path = tmp_path / f'{name}.parquet'
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table(range(first, first + size)), path, row_group_size=3)
    first += size
  (tmp_path / '_metadata.parquet').write_bytes(b'of another program')
  return tmp_path


def test_pictures_and_captions_are_those_of_the_rows(folder):
  source = parquet(path=str(folder), size=8)
  assert len(source) == 15
  order = np.random.default_rng(0).permutation(15)
  batch = source[order]['x0']
  for x, k in zip(batch, order.tolist(), strict=True):
    np.testing.assert_array_equal(x, tiny_shards.x0(k))
    assert source.captions[k] == f'number {k}'
  one = parquet(path=str(folder / 'lang=en' / 'b.parquet'), size=8)
  assert [*one.captions] == [f'number {k}' for k in range(5, 13)]


def test_two_hosts_share_out_an_epoch(folder):
  source = parquet(path=str(folder), size=8)
  seen = []
  for p in (0, 1):
    batches = make_batches(source, batch_size=6, seed=0, process=(p, 2))
    for batch in itertools.islice(batches, 5):
      seen += [round((x[0, 0, 0] + 1) * 127.5) for x in batch['x0']]
  assert sorted(seen) == sorted([*range(15)] * 2)


def test_the_memory_for_row_groups_is_bounded(tmp_path, monkeypatch):
  """And a group that is no longer held is read again."""
  monkeypatch.setattr(MODULE, 'HELD', 10_000)
  monkeypatch.setattr(MODULE, 'OPEN', 1)
  for name in 'ab':
    numbers = range(40)
    blob = [bytes(1000) for _ in numbers]
    pq.write_table(
      table(numbers, blob=blob), tmp_path / f'{name}.parquet', row_group_size=4
    )
  source = parquet(path=str(tmp_path), size=8, image='blob')
  rows = source.captioned.columns
  for k in [*range(80), *range(0, 80, 7)]:
    assert rows.image(k) == bytes(1000)
    assert rows.caption(k) == f'number {k % 40}'
    assert sum(each.nbytes for each in rows._held.values()) == rows._bytes
    assert rows._bytes <= 10_000
    assert len(rows._files) == 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'caption': 'captions'},
      r"caption = 'captions' must be one of the columns 'text' \(string\), 'im",
    ),
    ({'image': 'png'}, "image = 'png' must be one of the columns"),
    (
      {'image': 'text'},
      "image = 'text' must be a column of bytes, and is str",
    ),
    ({'caption': 'image_bytes'}, 'must be a column of texts, and is binary'),
    ({'size': 0}, 'size = 0 must be'),
    ({'split': 'test'}, "split = 'test' must be"),
  ],
)
def test_bad_options_are_refused(folder, options, message):
  with pytest.raises(ValueError, match=message):
    parquet(path=str(folder), **{'size': 8, **options})


def test_paths_without_parquet_are_refused(tmp_path):
  with pytest.raises(ValueError, match="path = '' must name"):
    parquet()
  with pytest.raises(ValueError, match='does not exist'):
    parquet(path=str(tmp_path / 'none'))
  with pytest.raises(ValueError, match=r'has no \.parquet in it'):
    parquet(path=str(tmp_path))
  (tmp_path / 'a.parquet').write_bytes(b'PAR1 no')
  with pytest.raises(ValueError, match="a.parquet' cannot be read"):
    parquet(path=str(tmp_path))
  pq.write_table(table([0]).slice(1), tmp_path / 'a.parquet')
  with pytest.raises(ValueError, match='has no row'):
    parquet(path=str(tmp_path))


def test_a_cut_file_is_refused(folder):
  path = folder / 'lang=en' / 'c.parquet'
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match="c.parquet' cannot be read"):
    parquet(path=str(folder))


def test_rows_without_a_picture_or_caption_are_replaced(tmp_path, caplog):
  records = pa.table(
    {
      'text': ['number 0', None, 'number 2', 'number 3'],
      'image_bytes': [png(0), png(1), None, png(3)],
    }
  )
  pq.write_table(records, tmp_path / 'a.parquet')
  source = parquet(path=str(tmp_path), size=8, max_broken=0.5)
  for index, number in ((0, 0), (1, 3), (2, 3), (3, 3)):
    np.testing.assert_array_equal(source[index]['x0'], tiny_shards.x0(number))
    assert source.captions[index] == f'number {number}'
  assert "'a.parquet row 1' is left out: its caption is null" in caplog.text
  assert "'a.parquet row 2' is left out: its picture is null" in caplog.text


def test_pictures_of_hugging_face_are_records(tmp_path):
  records = [{'bytes': png(k), 'path': f'{k}.png'} for k in range(3)]
  records.append({'bytes': None, 'path': 'elsewhere.png'})
  texts = [f'number {k}' for k in range(4)]
  pq.write_table(
    pa.table({'image': records, 'caption': texts}), tmp_path / 'a.parquet'
  )
  source = parquet(
    path=str(tmp_path), size=8, image='image', caption='caption', max_broken=0.3
  )
  np.testing.assert_array_equal(source[2]['x0'], tiny_shards.x0(2))
  source[3]
  (reason,) = source.broken.values()
  assert reason == "its picture is only named, 'elsewhere.png', and not stored"


def test_control_pictures_are_a_condition(tmp_path, caplog):
  """They stay with their pictures, and one without a picture is left out."""
  controls = [png(100 + k, size=16) for k in range(4)]
  controls[2] = b'no'
  records = table(range(4), edges=controls)
  pq.write_table(records, tmp_path / 'a.parquet')
  source = parquet(path=str(tmp_path), size=8, control='edges', max_broken=0.3)
  assert source.spec.cond.keys() == {'control'}
  assert source.spec.cond['control'].shape == source.spec.shape
  batch = source[np.asarray([3, 2, 0])]
  for x, control, k in zip(
    batch['x0'], batch['control'], (3, 3, 0), strict=True
  ):
    np.testing.assert_array_equal(x, tiny_shards.x0(k))
    np.testing.assert_array_equal(control, tiny_shards.x0(100 + k))
  assert "row 2' is left out: of its control picture, " in caplog.text
  alone = source.conditions(np.asarray([1, 0]))['control']
  np.testing.assert_array_equal(alone[0], tiny_shards.x0(101))
  assert not source.mirrors
  assert parquet(path=str(tmp_path), size=8).mirrors
  assert not parquet(path=str(tmp_path), size=8).spec.cond


@pytest.mark.parametrize(
  ('control', 'message'),
  [
    ('edge', "control = 'edge' must be one of the columns"),
    ('text', "control = 'text' must be a column of bytes, and is string"),
  ],
)
def test_a_column_of_no_control_pictures_is_refused(folder, control, message):
  with pytest.raises(ValueError, match=message):
    parquet(path=str(folder), size=8, control=control)
