"""configs/images/folder.py on a few pictures of one's own."""

import numpy as np
import pytest
from jobs import tiny
from PIL import Image

from flowdistill.stages.kinds import load_stages

FOLDER = tiny.CONFIGS / 'images' / 'folder.py'
SMALL = ('network.width=8', 'network.ch_mult=[1]', 'train.batch_size=16')


@pytest.mark.slow
def test_twenty_pictures_train_and_are_evaluated(tmp_path):
  """Of several sizes; of their names the hash alone would hold out none."""
  rng = np.random.default_rng(0)
  (tmp_path / 'pictures').mkdir()
  for k in range(20):
    pixels = rng.integers(0, 256, (9 + k, 12, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'pictures' / f'{k}.png')
  source = f'{FOLDER}:folder={tmp_path / "pictures"},size=8,epochs=4'
  sweep = 'evaluators.grid.sweep={"student": [["euler", 2]]}'
  samples = 'evaluators.validation.samples=8'
  rows = tiny.train_here(tmp_path / 'run', source, *SMALL, sweep, samples)
  losses = [row['flow_loss'] for row in rows if 'flow_loss' in row]
  assert losses
  assert np.isfinite(losses).all()
  assert list((tmp_path / 'run').rglob('samples/*.png'))


def test_it_evaluates_as_often_whatever_the_number_of_epochs():
  for epochs, every in ((4, 1), (200, 1), (20_000, 100)):
    (spec,) = load_stages(f'{FOLDER}:folder=F,epochs={epochs}').values()
    assert spec['train']['epochs'] == epochs
    assert spec['evaluation']['every'] == {'epochs': every}
    assert spec['checkpoint']['every'] == {'epochs': every}


@pytest.mark.parametrize(
  ('word', 'found'),
  [('by_class', True), ('by_class=true', True), ('by_class=false', False)],
)
def test_classes_can_be_turned_off(word, found):
  (spec,) = load_stages(f'{FOLDER}:folder=F,{word}').values()
  assert spec['dataset']['by_class'] is found
