"""Pictures of other shapes than those of the data."""

import dataclasses
import pathlib

import numpy as np
import pytest
from jobs import bucketed, tiny
from PIL import Image

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.flow.spec import CONTROL, Condition
from flowdistill.jobs import generate
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.resized import in_shape

CONFIG = pathlib.Path(bucketed.__file__)
ENCODED = {'name': 'patch_dct', 'patch': 2, 'scale': 1.0}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('resized') / 'pictures'
  return f'{CONFIG}:{bucketed.write_pictures(folder)}'


@pytest.fixture(scope='module')
def trained(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('trained')
  tiny.train_here(workdir, source, 'train.steps=1', f'space={ENCODED}')
  return workdir


@pytest.mark.slow
def test_samples_have_the_height_and_the_width_that_are_asked_for(trained):
  run = flowdistill.load(trained)
  plain = run.sample(2, nfe=1)
  assert plain.shape == (2, 16, 16, 3)
  same = run.sample(2, nfe=1, height=16, width=16)
  np.testing.assert_array_equal(plain, same)
  assert run.sample(2, nfe=1, height=12, width=20).shape == (2, 12, 20, 3)
  assert run.sample(2, nfe=1, width=24).shape == (2, 16, 24, 3)
  with pytest.raises(ValueError, match='height = 13, width = None'):
    run.sample(2, nfe=1, height=13)


@pytest.mark.slow
def test_the_job_writes_pictures_of_this_shape(trained, tmp_path):
  options = generate.Options(
    samples=2, nfe=1, height=12, width=20, write='npz,png', out=f'{tmp_path}/o'
  )
  generate.run(Blueprints.of_run(trained), options)
  (first, _) = sorted((tmp_path / 'o').glob('*.png'))
  with Image.open(first) as image:
    assert image.size == (20, 12)
  (array,) = (tmp_path / 'o').glob('*.npz')
  with np.load(array) as arrays:
    assert {a.shape for a in arrays.values()} == {(2, 12, 20, 3)}


def blueprint(source, *overrides):
  return tiny.check_here(tiny.stages(source, *overrides), CONFIG.parent)['run']


@pytest.mark.parametrize(
  ('sides', 'overrides', 'message'),
  [
    ((-4, None), [], 'height = -4, width = None must be at least 1 pixel'),
    ((0, 16), [], 'height = 0, width = 16 must be at least 1 pixel'),
    ((13, None), [], 'width = None: the student must take pictures of any'),
    ((13, 16), [f'space={ENCODED}', 'network.patch=1'], 'height = 13, .*patch'),
    (
      (12, 20),
      ['network.name=dit', 'dataset.buckets=None'],
      'the student must take pictures of any shape, as mmdit and U-Nets',
    ),
  ],
)
def test_what_cannot_be_drawn_is_refused(source, sides, overrides, message):
  with pytest.raises(ValueError, match=message):
    in_shape(blueprint(source, *overrides), ['student'], *sides)


def test_control_pictures_have_one_shape(source):
  plain = blueprint(source)
  cond = {CONTROL: Condition(plain.sees.shape)}
  sees = dataclasses.replace(plain.sees, cond=cond)
  controlled = dataclasses.replace(plain, sees=sees)
  with pytest.raises(ValueError, match=r'control pictures are \[16, 16, 3\]'):
    in_shape(controlled, ['student'], 12, 20)


@pytest.mark.slow
def test_the_job_names_its_options(trained):
  options = generate.Options(samples=2, nfe=1, height=13)
  with pytest.raises(ConfigError, match='--height=13 --width=0: height = 13'):
    generate.run(Blueprints.of_run(trained), options)


def test_points_have_no_height():
  points = tiny.check_here(tiny.stages(tiny.TOY), CONFIG.parent)['flow']
  with pytest.raises(ValueError, match=r'have no effect: \[2\] are no images'):
    in_shape(points, ['student'], 12, None)


def test_no_side_is_below_1():
  with pytest.raises(ConfigError, match='--width=-1 must be at least 1'):
    generate.Options(width=-1)
