"""Contact sheets: what they show, and what they say about it."""

import json

import numpy as np
import pytest
from PIL import Image

from flowdistill.evaluators.sheets import ABOUT, MOST, arranged, write_sheet
from flowdistill.evaluators.signature import NOWHERE
from flowdistill.evaluators.sweep import SweepEntry

ENTRY = SweepEntry('student', 'gamma', 4, {'gamma': 0.5, 'guidance': 2.0})
X = np.linspace(-1, 1, 12 * 8 * 6 * 3).reshape(12, 8, 6, 3)


def test_a_sheet_says_how_it_was_drawn(tmp_path):
  write_sheet(tmp_path, ENTRY, X, seed=3)
  (path,) = (tmp_path / 'sheets').iterdir()
  with Image.open(path) as image:
    assert json.loads(image.text[ABOUT]) == {
      'model': 'student',
      'sampler': 'gamma',
      'nfe': 4,
      'options': {'gamma': 0.5, 'guidance': 2.0},
      'seed': 3,
      'examples': 12,
    }
  assert path.name.startswith('student_gamma_4-')


@pytest.mark.parametrize('other', [{'gamma': 0.6}, {'guidance': {'scale': 2}}])
def test_another_way_of_drawing_is_another_file(tmp_path, other):
  again = SweepEntry('student', 'gamma', 4, {**ENTRY.options, **other})
  for entry in (ENTRY, again, ENTRY):
    write_sheet(tmp_path, entry, X, seed=0)
  assert len(list((tmp_path / 'sheets').iterdir())) == 2


@pytest.mark.parametrize('model', ['../../a', '/a', 'a\0b', 'é' * 300, '.', ''])
def test_no_name_leads_out_of_the_folder(tmp_path, model):
  write_sheet(tmp_path, SweepEntry(model, 'euler', 1), X, seed=0)
  assert len(list((tmp_path / 'sheets').glob('*.png'))) == 1


def test_images_are_in_rows_of_ten_with_a_transparent_gap():
  page = np.asarray(arranged(X))
  assert page.shape == (2 * 8 + 1, 10 * 7 - 1, 4)
  pixels = np.clip(np.round((X + 1) * 127.5), 0, 255)
  assert (page[:8, 7:13, :3] == pixels[1]).all()
  assert (page[9:, :6, :3] == pixels[10]).all()
  assert not page[:, 6, 3].any() and not page[9:, 14:, 3].any()


@pytest.mark.parametrize(
  ('side', 'shown'), [(128, 128), (512, 128), (300, 100)]
)
def test_large_images_are_made_smaller(side, shown):
  assert arranged(np.zeros((1, side, side, 1))).size == (shown, shown)


def test_of_many_images_the_first_are_shown(tmp_path):
  write_sheet(tmp_path, ENTRY, np.zeros((1000, 4, 4, 1)), seed=0)
  (path,) = (tmp_path / 'sheets').iterdir()
  with Image.open(path) as image:
    assert json.loads(image.text[ABOUT])['examples'] == MOST


def test_other_hosts_write_nothing():
  write_sheet(NOWHERE, ENTRY, X, seed=0)
