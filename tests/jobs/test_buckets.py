"""Training on pictures of several shapes, from the config to the weights."""

import json
import pathlib

import numpy as np
import pytest
from jobs import elastic, tiny
from jobs.bucketed import write_pictures

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import plan
from flowdistill.stages.assembly import assemble, batches
from flowdistill.stages.sharding import shard_dataset
from flowdistill.training import checkpoint

CONFIG = pathlib.Path(__file__).with_name('bucketed.py')
SHAPES = [(16, 16, 3), (12, 20, 3), (20, 12, 3)]
NOWHERE = pathlib.Path('nowhere')
ENCODED = {'name': 'patch_dct', 'patch': 2, 'scale': 1.0}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = write_pictures(tmp_path_factory.mktemp('bucketed') / 'pictures')
  return f'{CONFIG}:{folder}'


def checked(source, *overrides):
  return tiny.check_here(tiny.stages(source, *overrides), NOWHERE)['run']


def test_every_bucket_has_a_shape_for_the_network(source):
  blueprint = checked(source)
  assert blueprint.sees.shape == (16, 16, 3)
  assert [b.sees.shape for b in blueprint.buckets] == SHAPES
  assert blueprint.total == 14
  latents = checked(source, f'space={ENCODED}', 'network.patch=1')
  assert [b.sees.shape for b in latents.buckets] == [
    (8, 8, 12),
    (6, 10, 12),
    (10, 6, 12),
  ]


def test_a_batch_on_the_devices_is_of_one_bucket(source):
  fed = batches(assemble(checked(source), NOWHERE), 0)
  shapes = [next(fed)['x0'].shape for _ in range(12)]
  assert {shape[1:] for shape in shapes} == set(SHAPES)
  assert {shape[0] for shape in shapes} == {4}


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['network.name=dit'],
      r"config.network.name = 'dit' must take pictures of any shape, as mmdit "
      r'.* config.dataset.buckets there are \[12, 20, 3\]',
    ),
    (
      ['network.patch=8'],
      r"network.name = 'mmdit' must take .* \[12, 20, 3\]",
    ),
    (
      ['dataset.buckets.step=5'],
      'step = 5 must divide size = 16; size may be 15 or 20',
    ),
    (
      ['dataset.buckets.max_ratio=0.5'],
      'config.dataset.buckets.*max_ratio = 0.5 must be at least 1',
    ),
    (
      ['dataset.buckets.steps=4'],
      "config.dataset.buckets.*'steps'",
    ),
    (
      ['dataset.resize=stretch'],
      "resize = 'stretch' must be 'centre_crop' with buckets",
    ),
  ],
)
def test_what_cannot_have_several_shapes_is_refused(source, overrides, message):
  with pytest.raises(ConfigError, match=message):
    checked(source, *overrides)


def test_shards_of_pictures_of_several_shapes_are_refused(source, tmp_path):
  dataset = tiny.stages(source)['run']['dataset']
  with pytest.raises(ConfigError, match='config.dataset.buckets must be None'):
    shard_dataset(dataset, 'dataset', tmp_path, kind='webdataset', per_shard=10)


@pytest.mark.slow
def test_a_plan_has_a_row_for_each_bucket(source, tmp_path, capsys):
  path = tmp_path / 'plan.json'
  options = plan.Options(devices=2, json=str(path))
  specs = tiny.stages(source)
  (row,) = tiny.run(plan, specs, NOWHERE, options)
  assert [tuple(each['pictures']) for each in row['buckets']] == SHAPES
  square, wide, upright = row['buckets']
  assert square['flops_per_step'] == row['flops_per_step']
  assert square['peak'] == row['bytes_per_device']['peak']
  assert wide['flops_per_step'] == upright['flops_per_step']
  share = 12 * 20 / 16**2  # attention takes less than in proportion
  ratio = wide['flops_per_step'] / square['flops_per_step']
  assert share**2 < ratio < 1
  assert '12 x 20 x 3' in capsys.readouterr().out
  assert len(json.loads(path.read_text())[0]['buckets']) == 3


def losses(workdir):
  rows = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [row['loss'] for row in map(json.loads, rows) if 'loss' in row]


@pytest.mark.slow
def test_it_learns_from_three_shapes_and_goes_on_after_a_kill(source, tmp_path):
  """Killed in the middle of an epoch (of 5 or 6 batches) and of a bucket."""
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  tiny.train_here(whole, source)
  assert len(losses(whole)) == 14
  assert np.isfinite(losses(whole)).all()

  def saved():
    return checkpoint.completed_steps(killed / 'checkpoints')

  process = tiny.start(killed, source)
  tiny.send_when(process, saved, seconds=280)
  assert saved()[-1] < 14
  tiny.train_here(killed, source)
  assert losses(killed) == losses(whole)
  tiny.assert_same_bytes(elastic.arrays(whole), elastic.arrays(killed))
