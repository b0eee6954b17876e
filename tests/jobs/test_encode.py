"""Latents of images: the same bytes however they came about."""

import json
import shutil
import signal

import numpy as np
import pytest
from jobs import hosts, tiny
from jobs.encoding import (
  contents,
  make,
  manifest_of,
  space_and_images,
  write_weights,
)

from flowdistill.config.bind import ConfigError
from flowdistill.datasets.latents import latents
from flowdistill.datasets.shards import read_array
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.watchdog import AGAIN
from flowdistill.workdir.record import load_spec


def array(folder, name):
  count = len(list(folder.glob('*.sha256')))
  return np.concatenate([read_array(folder, k, name) for k in range(count)])


def test_they_are_what_the_autoencoder_answers(coded):
  folder = coded[1] / 'encode' / 'latents'
  space, data = space_and_images(coded)
  rows = data[np.arange(len(data))]
  mean, std = space.moments(rows['x0'])
  np.testing.assert_allclose(array(folder, 'mean'), mean, atol=1e-5)
  np.testing.assert_allclose(array(folder, 'std'), std, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(array(folder, 'label'), rows['label'])
  made = manifest_of(folder)
  assert made['count'] == len(data)
  assert made['pictures'] == [8, 8, 1]
  assert made['spec']['shape'] == [4, 4, 4]
  assert (made['scale'], made['shift']) == (0.5, 0.1)
  assert made['weights_sha256'] == space.digest()
  assert made['from_uint8'] == 'x / 127.5 - 1'
  assert made['dataset']['config']['split'] == 'train'
  assert made['space']['block_out_channels'] == [8, 16]
  assert 'path' not in made['space']
  assert made['code']


def test_what_is_finished_stays_and_a_missing_shard_is_made_again(
  coded, capsys
):
  folder = coded[1] / 'encode' / 'latents'
  before = contents(folder)
  times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  make(*coded)
  assert 'encode: finished before' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == times
  (folder / '00001.sha256').unlink()
  (folder / '00001.mean.npy').write_bytes(b'half')
  make(*coded)
  assert contents(folder) == before


def test_the_weights_of_the_space_may_move(coded, tmp_path):
  """Its batch size may change too; only other bytes are another autoencoder."""
  workdir, moved = tmp_path / 'w', tmp_path / 'moved.safetensors'
  shutil.copytree(coded[1] / 'encode', workdir / 'encode')
  shutil.copy(coded[1].parent / 'vae.safetensors', moved)
  folder = workdir / 'encode' / 'latents'
  before = contents(folder)
  (folder / '00001.sha256').unlink()
  space = 'stages.encode.space'
  more = [f'{space}.path={moved}']
  make(coded[0], workdir, *more)
  assert contents(folder) == before
  more += [f'{space}.batch_size=5']
  make(coded[0], workdir, *more)
  spec = load_spec(folder.parent)
  assert spec['space']['path'] == str(moved)
  write_weights(moved, seed=1)
  with pytest.raises(ConfigError, match='holds other latents: weights_sha256'):
    make(coded[0], workdir, *more)
  with pytest.raises(
    ConfigError, match='with another config: .*scaling_factor'
  ):
    make(coded[0], workdir, f'{space}.scaling_factor=0.6')
  assert contents(folder) == before


def test_options_that_are_newer_than_a_cache_have_their_defaults(coded):
  path = coded[1] / 'encode' / 'latents' / 'manifest.json'
  before = path.read_bytes()
  made = json.loads(before)
  del made['space']['pixel_range'], made['dataset']['config']['size']
  path.write_text(json.dumps(made))
  try:
    make(*coded)
    tiny.check_here(tiny.stages(coded[0]), coded[1])
  finally:
    path.write_bytes(before)


def test_options_are_for_a_stage_that_trains(coded, tmp_path):
  images = "stages.flow.dataset={'name': 'digits', 'split': 'validation'}"
  out = str(tmp_path / 'out')
  made = make(
    *coded, images, stage='flow', sample=True, flips=True, seed=3, out=out
  )
  again = make(*coded, images, stage='flow', sample=True, flips=True, seed=3)
  assert again == coded[1] / 'flow' / 'latents'
  assert contents(made) == contents(again)
  shutil.rmtree(coded[1] / 'flow')
  x = Blueprints(tiny.stages(coded[0], images), coded[1])['flow'].data
  x0 = x[np.arange(len(x))]['x0']
  space, _ = space_and_images(coded)
  seen = []
  for end, images in (('', x0), ('_flipped', x0[:, :, ::-1])):
    mean, std = space.moments(images)
    noise = (array(made, f'sample{end}') - mean) / std
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    seen.append(noise)
  assert not np.allclose(*seen)
  assert not list(made.glob('*.std.npy'))


def test_a_space_without_noise_has_one_array(coded, tmp_path):
  more = ("stages.encode.space={'name': 'patch_dct', 'scale': 2.0}",)
  folder = make(coded[0], tmp_path, *more)
  _, data = space_and_images(coded)
  source = latents(path=str(folder))
  space = Blueprints(tiny.stages(coded[0], *more), tmp_path)['encode'].space
  wanted = space.encode(data[np.arange(9)]['x0'])
  np.testing.assert_allclose(source[np.arange(9)]['x0'], wanted, atol=1e-5)
  drawn = source.draw(np.arange(9), np.zeros(9, int), 5)
  np.testing.assert_array_equal(drawn['x0'], source[np.arange(9)]['x0'])


# --- Interruptions, and several hosts -----------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, AGAIN)]
)
def test_after_a_kill_they_end_in_the_same_bytes(coded, tmp_path, number, code):
  more = ('stages.encode.shard_size=30',)
  whole = contents(make(coded[0], tmp_path / 'whole', *more))
  workdir = tmp_path / 'killed'
  folder = workdir / 'encode' / 'latents'
  process = tiny.start(workdir, coded[0], *more, job='encode')
  tiny.send_when(process, (folder / '00002.sha256').exists, number)
  assert process.returncode == code
  assert not manifest_of(folder)['finished']
  with pytest.raises(ValueError, match=r'are not finished, \d+ of 54 shards'):
    latents(path=str(folder))
  make(coded[0], workdir, *more)
  assert contents(folder) == whole


@pytest.mark.slow
def test_two_hosts_write_the_bytes_of_one(coded, tmp_path):
  processes = hosts.start_all(tmp_path, coded[0], '--job=encode')
  for code, _, errors in hosts.end_all(processes):
    assert code == 0, errors
  one = contents(coded[1] / 'encode' / 'latents')
  assert contents(tmp_path / 'encode' / 'latents') == one
