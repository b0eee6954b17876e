"""Data sets that `save_to_disk` of Hugging Face's `datasets` wrote."""

import json

import numpy as np
import pyarrow as pa
import pytest
from datasets import tiny_shards
from datasets.tiny_columns import save
from datasets.tiny_shards import png

from flowdistill.datasets.hugging_face import hugging_face


def test_pictures_and_captions_are_those_of_the_rows(tmp_path):
  source = hugging_face(path=str(save(tmp_path, [7, 1, 5])), size=8)
  assert len(source) == 13
  order = np.random.default_rng(0).permutation(13)
  for x, k in zip(source[order]['x0'], order.tolist(), strict=True):
    np.testing.assert_array_equal(x, tiny_shards.x0(k))
    assert source.captions[k] == f'number {k}'
  assert source.captioned.name(8) == 'data-00002-of-00003.arrow row 8'


def test_bytes_may_stand_alone(tmp_path):
  table = pa.table({'picture': [png(4)], 'title': ['number 4']})
  save(tmp_path, [1])
  with pa.OSFile(str(tmp_path / 'data-00000-of-00001.arrow'), 'wb') as file:
    with pa.ipc.new_stream(file, table.schema) as writer:
      writer.write_table(table)
  source = hugging_face(
    path=str(tmp_path), size=8, image='picture', caption='title'
  )
  np.testing.assert_array_equal(source[0]['x0'], tiny_shards.x0(4))
  with pytest.raises(ValueError, match="caption = 'text' must be .*'title'"):
    hugging_face(path=str(tmp_path), size=8, image='picture')


def test_a_folder_of_splits_is_refused_with_their_names(tmp_path):
  for name in ('train', 'test'):
    save(tmp_path / name, [2])
  splits = json.dumps({'splits': ['train', 'test']})
  (tmp_path / 'dataset_dict.json').write_text(splits)
  with pytest.raises(ValueError, match="'train', 'test': name .*/train'"):
    hugging_face(path=str(tmp_path))
  assert len(hugging_face(path=str(tmp_path / 'test'), size=8)) == 2


@pytest.mark.parametrize(
  ('state', 'message'),
  [
    ('{', 'state.json cannot be read'),
    ('[]', 'state.json is not an object'),
    ('{}', 'names no files'),
    ('{"_data_files": [{"filename": "../a.arrow"}]}', 'is not in the folder'),
    (
      '{"_data_files": [{"filename": "none.arrow"}]}',
      "none.arrow' cannot",
    ),
    ('{"_data_files": []}', 'has no row'),
    (
      '{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}',
      'in another order',
    ),
  ],
)
def test_a_damaged_state_is_refused(tmp_path, state, message):
  save(tmp_path, [2])
  (tmp_path / 'state.json').write_text(state)
  with pytest.raises(ValueError, match=message):
    hugging_face(path=str(tmp_path))


def test_what_is_no_such_folder_is_refused(tmp_path):
  with pytest.raises(ValueError, match="path = '' must name a folder"):
    hugging_face()
  with pytest.raises(ValueError, match=r'has no state\.json'):
    hugging_face(path=str(tmp_path))
  (path,) = save(tmp_path, [9]).glob('*.arrow')
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(ValueError, match="arrow' cannot be read"):
    hugging_face(path=str(tmp_path))


def test_control_pictures_are_a_condition(tmp_path):
  """Here a picture is its own one."""
  path = str(save(tmp_path, [3, 2]))
  source = hugging_face(path=path, size=8, control='image')
  batch = source[np.arange(5)]
  np.testing.assert_array_equal(batch['control'], batch['x0'])
  np.testing.assert_array_equal(batch['x0'][4], tiny_shards.x0(4))
