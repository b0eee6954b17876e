"""A transformer of text learns from every data set of captions in files."""

import json
import pathlib

import numpy as np
import pytest
from datasets.tiny_sets import SETS, write_set
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import encode, shard
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import check_stages

CONFIG = pathlib.Path(__file__).with_name('in_files.py')
TEXT = {'name': 'bytes', 'length': 8}
CAPTIONS = ['number 0', 'a red fire', '', '🔥', 'صورة حصان', 'x' * 10_000]
SPACE = "space={'name': 'patch_dct', 'patch': 2, 'scale': 1.0}"


def losses(workdir):
  text = (workdir / 'metrics.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  return [row['loss'] for row in rows if 'loss' in row]


@pytest.mark.slow
@pytest.mark.parametrize('name', SETS)
def test_it_takes_a_step_on_captions_of_every_form(tmp_path, name):
  dataset = {**write_set(tmp_path, name, CAPTIONS), 'text': TEXT}
  tiny.train_here(tmp_path / 'w', CONFIG, f'dataset={dataset!r}')
  assert np.isfinite(losses(tmp_path / 'w')).all()
  record = json.loads((tmp_path / 'w' / 'config.json').read_text())
  assert record['data']['spec']['text'] == {**TEXT, 'cut': True}


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('parquet', {'text': 'title'}, "text = 'title' does not exist; .*'words'"),
    ('parquet', {'captions': 'a'}, "no 'captions'; did you mean 'caption'"),
    ('webdataset', {'caption': 'a'}, "caption = 'a' must be 'txt' or 'json'"),
    ('stream', {'text': 'words'}, r"text\.vocabulary = '' must name a file"),
    ('hugging_face', {'text': 'byte'}, "did you mean 'bytes'"),
  ],
)
def test_bad_options_are_refused(tmp_path, name, change, message):
  dataset = {**write_set(tmp_path, name, CAPTIONS), **change}
  with pytest.raises(ConfigError, match=rf'config\.dataset.*{message}'):
    tiny.check_here(tiny.stages(CONFIG, f'dataset={dataset!r}'), tmp_path)


def test_a_network_that_takes_no_control_pictures_says_so(tmp_path):
  dataset = write_set(tmp_path, 'hugging_face', CAPTIONS)
  dataset |= {'text': 'bytes', 'control': 'image'}
  for network in ('mmdit', 'dit', 'unet'):
    stages = tiny.stages(CONFIG, f'dataset={dataset!r}', f'network={network}')
    with pytest.raises(ConfigError, match="takes no condition '?control"):
      tiny.check_here(stages, tmp_path)


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
  """The folder of the latents of 20 captioned shapes in shards."""
  folder = tmp_path_factory.mktemp('latents')
  images = "dataset={'name': 'shapes', 'size': 24, 'examples': 20}"
  chosen = encode.Options(out=str(folder / 'cache'))
  blueprints = Blueprints(tiny.stages(CONFIG, images, SPACE), folder)
  blueprints = encode.only_encoding(blueprints, chosen)
  check_stages(blueprints)
  encode.run(blueprints, chosen)
  cache = f"dataset={{'name': 'latents', 'path': '{folder}/cache'}}"
  shard.run(
    Blueprints(tiny.stages(CONFIG, cache, SPACE), folder, recorded=False),
    shard.Options(out=f'{folder}/shards', per_shard=8),
  )
  return folder / 'shards'


def of_shards(shards, **more):
  options = {'name': 'webdataset', 'path': str(shards), 'latents': True}
  return f'dataset={ {**options, "text": TEXT, **more}!r}'


@pytest.mark.slow
@pytest.mark.parametrize('index', [True, False])
def test_latents_in_shards_are_trained_on(shards, tmp_path, index):
  change = of_shards(shards, index=index)
  tiny.train_here(tmp_path, CONFIG, change, SPACE, 'network.patch=1')
  assert np.isfinite(losses(tmp_path)).all()


@pytest.mark.slow
def test_latents_of_another_encoder_are_refused(shards, tmp_path):
  for change in ('space.scale=2.0', 'space.patch=4', 'space=pixels'):
    stages = tiny.stages(CONFIG, of_shards(shards), SPACE, change)
    with pytest.raises(ConfigError, match='must be the space of the latents'):
      tiny.check_here(stages, tmp_path)
