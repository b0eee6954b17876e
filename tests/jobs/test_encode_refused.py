"""Encoding that is refused, and latents that are left alone."""

import shutil

import pytest
from jobs import tiny
from jobs.encoding import contents, make, write_weights

import flowdistill
from flowdistill.config.bind import ConfigError

IMAGES = "stages.flow.dataset={'name': 'digits', 'split': 'train'}"


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['stages.flow.space.scaling_factor=0.6'],
      r'stages\.flow\.space must be the space of the latents in .*scaling',
    ),
    (
      ['stages.flow.space.shift_factor=0.0'],
      'shift_factor was 0.1, is 0.0',
    ),
    (['stages.flow.space=pixels'], "space.name was 'kl', is 'pixels'"),
    (
      ['stages.flow.space.path=/nowhere.safetensors'],
      r'config\.stages\.flow\.space: there is no file',
    ),
    (
      ['stages.flow.dataset.path=/nowhere'],
      r"dataset\.path = '/nowhere': it is no folder of latents",
    ),
    (["stages.flow.dataset.path=''"], r"dataset\.path = '' must be a folder"),
    (['stages.flow.dataset.flip=true'], 'has no mirrored images'),
    (
      ['stages.flow.dataset=digits', 'stages.flow.train.flip=true'],
      r'train\.flip has no effect: mirrored latents are not those of .*images$',
    ),
    (['stages.flow.train.flip=true'], r'train\.flip has no effect: mirrored'),
    (
      ["stages.flow.evaluation.dataset={'name': 'digits', 'size': 16}"],
      r'evaluation\.dataset must have examples as those of the stage, \[8, 8',
    ),
    (
      [
        "stages.flow.evaluation.dataset={'name': 'latents', 'path': 'PATH'}",
      ],
      r'flow\.evaluation\.dataset must have images, and these are latents',
    ),
    (
      ["stages.encode.dataset={'name': 'latents', 'path': 'PATH'}"],
      r'encode\.dataset must have images',
    ),
    (['stages.encode.dataset=moons'], r'kl takes images \[h, w, c\]'),
    (
      ['stages.encode.space=pixels', 'stages.encode.sample=true'],
      r"encode\.sample has no effect: .* the space 'pixels'",
    ),
    (['stages.encode.dtype=int8'], "dtype = 'int8' must be 'float32' or"),
    (['stages.encode.shard_size=0'], 'shard_size = 0 must be at least 1'),
    (['stages.encode.seed=1'], 'seed = 1 has no effect without sample'),
    (['stages.encode.flip=true'], "did you mean 'flips'"),
    (['stages.encode.network=mlp'], "has no key 'network'"),
  ],
)
def test_a_config_that_is_wrong_is_refused(coded, overrides, message):
  path = str(coded[1] / 'encode' / 'latents')
  overrides = [text.replace('PATH', path) for text in overrides]
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(coded[0], *overrides), coded[1])


@pytest.mark.slow
def test_a_stage_on_images_keeps_the_weights_of_its_space(coded, tmp_path):
  space = tmp_path / 'space.safetensors'
  write_weights(space)
  given = (coded[0], IMAGES, f'stages.flow.space.path={space}')
  shutil.copytree(coded[1] / 'encode', tmp_path / 'w' / 'encode')
  tiny.train_here(tmp_path / 'w', *given)
  write_weights(space, seed=1)
  longer = (*given, 'stages.flow.train.steps=6')
  with pytest.raises(ConfigError, match='must have the weights of the train'):
    tiny.check_here(tiny.stages(*longer), tmp_path / 'w')
  with pytest.raises(ConfigError, match='must have the weights of the train'):
    flowdistill.load(tmp_path / 'w')
  space.unlink()
  with pytest.raises(ConfigError, match=r'config\.space: there is no file'):
    flowdistill.load(tmp_path / 'w')
  write_weights(space)
  assert flowdistill.load(tmp_path / 'w').folder.name == 'flow'


def test_other_weights_are_refused(coded, tmp_path):
  other = tmp_path / 'other.safetensors'
  write_weights(other, seed=1)
  override = f'stages.flow.space.path={other}'
  with pytest.raises(ConfigError, match=r'weights_sha256 was .*, is '):
    tiny.check_here(tiny.stages(coded[0], override), coded[1])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'stage': 'flaw'}, "--stage=flaw does not exist; did you mean 'flow'"),
    ({'stage': 'encode', 'flips': True}, "'encode' encodes by its own keys"),
    ({'stage': 'flow', 'seed': 1}, '--seed = 1 has no effect without sample'),
    ({'stage': 'flow', 'dtype': 'f4'}, "--dtype = 'f4' must be"),
  ],
)
def test_options_that_cannot_be_are_refused(coded, options, message):
  with pytest.raises(ConfigError, match=message):
    make(*coded, **options)


def test_a_folder_of_other_latents_is_left_alone(coded, tmp_path):
  folder = coded[1] / 'encode' / 'latents'
  before = contents(folder)
  images = 'stages.flow.dataset=digits'
  for options, difference in (
    ({'dtype': 'float16'}, "dtype was 'float32', is 'float16'"),
    ({'flips': True}, 'flips was False, is True'),
    ({}, 'shard_size was 600, is 1797'),
  ):
    with pytest.raises(
      ConfigError, match=f'holds other latents: .*{difference}'
    ):
      make(*coded, images, stage='flow', out=str(folder), **options)
  with pytest.raises(ConfigError, match='was made with another config'):
    make(*coded, 'stages.encode.flips=true')
  assert contents(folder) == before


def test_latents_that_are_not_finite_are_refused(coded, tmp_path):
  """Such as those of an autoencoder that exceed half precision."""
  more = (
    "stages.encode.space={'name': 'patch_dct', 'scale': 1e6}",
    'stages.encode.dtype=float16',
  )
  with pytest.raises(ConfigError, match='image 0 are not finite in float16'):
    make(coded[0], tmp_path, *more)
