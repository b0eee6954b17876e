"""`--job=shard` and `--job=index`: from a config to shards that train."""

import numpy as np
import pytest
from datasets import tiny_font
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.datasets import DATASETS
from flowdistill.datasets.index_files import index_path
from flowdistill.datasets.webdataset import webdataset
from flowdistill.jobs import index, shard
from flowdistill.stages.blueprints import Blueprints

CONFIG = f'{tiny.CONFIGS / "emoji.py"}:runlocal'


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """An override that names a font."""
  folder = tmp_path_factory.mktemp('font')
  (folder / 'font.ttf').write_bytes(tiny_font.font())
  (folder / 'names.txt').write_text(tiny_font.NAMES)
  files = {'path': f'{folder}/font.ttf', 'names': f'{folder}/names.txt'}
  return f'dataset={ {"name": "emoji", "size": 16, **files}!r}'


def write(dataset, tmp_path, *overrides, **options):
  stages = tiny.stages(CONFIG, dataset, *overrides)
  blueprints = Blueprints(stages, tmp_path, recorded=False)
  options = {'out': str(tmp_path / 'shards'), 'per_shard': 2, **options}
  return shard.run(blueprints, shard.Options(**options))


@pytest.mark.parametrize('kind', ['webdataset', 'parquet'])
def test_emoji_are_written_with_their_names(dataset, tmp_path, kind):
  paths = write(dataset, tmp_path, format=kind)
  options = dict(tiny.stages(CONFIG, dataset)['flow']['dataset'])
  first = DATASETS[options.pop('name')](**options)
  second = DATASETS[kind](path=str(tmp_path / 'shards'), size=16)
  assert len(first) == len(second) > 2 * len(paths) - 2 > 2
  assert [*second.captions] == [*first.captions]
  every = np.arange(len(first))
  np.testing.assert_array_equal(second[every]['x0'], first[every]['x0'])
  before = [path.read_bytes() for path in paths]
  paths[1].unlink()
  assert write(dataset, tmp_path, format=kind) == paths
  assert [path.read_bytes() for path in paths] == before


def test_a_folder_of_another_data_set_is_refused(dataset, tmp_path):
  write(dataset, tmp_path)
  with pytest.raises(ConfigError, match='of another data set: per_shard is 2'):
    write(dataset, tmp_path, per_shard=3)
  with pytest.raises(ConfigError, match='of another data set: dataset is'):
    write(dataset, tmp_path, 'dataset.size=8')
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'a.txt').touch()
  with pytest.raises(ConfigError, match="must be an empty folder, and has 'a"):
    write(dataset, tmp_path, out=str(tmp_path / 'mine'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'out': ''}, '--out is missing'),
    ({'format': 'tar'}, '--format=tar does not exist'),
    ({'per_shard': 0}, '--per_shard=0 must be at least 1'),
    ({'stage': 'flaw'}, "--stage=flaw does not exist; did you mean 'flow'"),
  ],
)
def test_bad_options_are_refused(dataset, tmp_path, options, message):
  with pytest.raises(ConfigError, match=message):
    write(dataset, tmp_path, **options)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      'dataset=digits',
      "name = 'digits': its examples have no captions",
    ),
    ('dataset.path=none.ttf', 'none.ttf'),
    ('dataset.background=alpha', 'must be pictures'),
  ],
)
def test_a_data_set_that_cannot_be_written_is_refused(
  dataset, tmp_path, override, message
):
  with pytest.raises(ConfigError, match=message):
    write(dataset, tmp_path, override)
  assert not (tmp_path / 'shards').exists()


def test_shards_are_indexed_by_a_command(dataset, tmp_path):
  paths = write(dataset, tmp_path)
  for path in paths:
    index_path(str(path)).unlink()
  count = index.run(index.Options(path=str(tmp_path / 'shards')))
  assert count == len(webdataset(path=str(tmp_path / 'shards'), size=16))


def test_what_cannot_be_indexed_is_refused(tmp_path):
  with pytest.raises(ConfigError, match='--path is missing'):
    index.run(index.Options())
  (tmp_path / 'a.tar').write_bytes(b'no')
  for path, message in (
    (f'{tmp_path}/none.tar', 'there is no shard'),
    (f'{tmp_path}/a.tar', 'cannot be indexed'),
    ('gs://bucket/a.tar', 'must be a file'),
  ):
    with pytest.raises(ConfigError, match=message):
      index.run(index.Options(path=path))
