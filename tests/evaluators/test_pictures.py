"""Pictures: which pixels are where, and that files appear whole."""

import json
import os

import matplotlib as mpl
import numpy as np
import pytest
from evaluators.fakes import Data, Replay, digits, points
from matplotlib.image import imread
from PIL import Image

from flowdistill.evaluators import canvas, mosaic
from flowdistill.evaluators.pictures import pictures
from flowdistill.evaluators.sheets import ABOUT
from flowdistill.evaluators.signature import NOWHERE
from flowdistill.evaluators.sweep import SweepEntry
from flowdistill.flow.spec import Condition, DataSpec

SWEEP = {
  'teacher': [['euler', 1], ['heun', 31]],
  'student': [['flow_map', 1]],
}


def draw(folder, source, **options):
  """The one PNG that is made, [h, w, 4] in [0, 1], its name, and the models."""
  x0 = source.arrays['x0']
  models = {'student': Replay(x0), 'teacher': Replay(x0, 1.0)}
  rows = pictures(models, source, None, folder, sweep=SWEEP, **options)
  assert list(rows) == []
  (path,) = (folder / 'samples').iterdir()
  return imread(path), path.name, models


def test_digits_side_by_side(tmp_path):
  image, name, models = draw(tmp_path, digits(), seed=4)
  assert name == 'teacher_and_student.png'
  height, width, _ = image.shape
  assert 1600 < width < 2000
  assert 200 < height < 400
  assert len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) > 20
  calls = models['teacher'].calls + models['student'].calls
  assert {call['seed'] for call in calls} == {4}  # the same noise
  assert [c['cond']['label'].tolist() for c in calls] == [[*range(10)]] * 3


def test_every_pixel_is_where_it_belongs(tmp_path):
  """Enlarged by a whole factor, unblurred, level with its NFE."""
  rng = np.random.default_rng(0)
  shape = (3, 16, 16, 3)
  drawn = [
    (SweepEntry('teacher', 'euler', 1), rng.uniform(-1, 1, shape)),
    (SweepEntry('teacher', 'heun', 3), rng.uniform(-1, 1, shape)),
    (SweepEntry('student', 'flow_map', 3), rng.uniform(-1, 1, shape)),
  ]
  mosaic.side_by_side(tmp_path / 'a.png', drawn, headings=['0', '1', '2'])
  page = imread(tmp_path / 'a.png')[..., :3]
  tops = [mosaic.HEAD, mosaic.HEAD + 70, mosaic.HEAD + 70]
  lefts = [find_left(page, tops[0], 0), 0, 0]
  lefts[1] = lefts[0]
  lefts[2] = find_left(page, tops[2], lefts[0] + 3 * 70)
  for (_, x), top, left in zip(drawn, tops, lefts, strict=True):
    for k, one in enumerate(x):
      tile = page[top : top + 64, left + 70 * k :][:, :64]
      expected = ((one + 1) / 2).repeat(4, axis=0).repeat(4, axis=1)
      np.testing.assert_allclose(tile, expected, atol=1.01 / 255)
  blank = page[tops[0] : tops[0] + 64, lefts[2] :]
  assert (blank == 1).all()  # the student has no row at 1 NFE


def test_models_that_are_never_level_share_their_columns(tmp_path):
  rng = np.random.default_rng(0)
  drawn = [
    (SweepEntry(model, 'heun', nfe), rng.uniform(-1, 1, (3, 64, 64, 1)))
    for model, nfe in {'student': 1, 'teacher': 3}.items()
  ]
  mosaic.side_by_side(tmp_path / 'a.png', drawn)
  page = imread(tmp_path / 'a.png')[..., :3]
  tops = [mosaic.HEAD, mosaic.HEAD + 70]
  left, below = (find_left(page, top, 0) for top in tops)
  assert left == below
  colour = canvas.colours(['student', 'teacher'])
  for model, top in zip(('student', 'teacher'), tops, strict=True):
    assert len(inks(page[top : top + 64, :left], colour[model]))


def find_left(page, top, start):
  """The first column from `start` on with no white among 64 rows."""
  full = (page[top : top + 64, start:] < 1).any(axis=-1).all(axis=0)
  return start + int(np.argmax(full))


def test_values_out_of_range_are_cut_off(tmp_path):
  x = np.stack([np.full((64, 64, 1), v) for v in (-5.0, 0.0, 5.0)])
  mosaic.side_by_side(
    tmp_path / 'a.png', [(SweepEntry('student', 'euler', 1), x)]
  )
  page = imread(tmp_path / 'a.png')[mosaic.HEAD + 32, :, 0]
  first = int(np.argmax(page == 0))
  middle = [page[first + 70 * k + 32] for k in range(3)]
  assert middle == pytest.approx([0, 0.5, 1], abs=0.01)


def test_large_images_are_made_smaller(tmp_path):
  x = np.random.default_rng(0).uniform(-1, 1, (4, 512, 512, 3))
  mosaic.side_by_side(
    tmp_path / 'a.png', [(SweepEntry('student', 'euler', 1), x)]
  )
  height, width, _ = imread(tmp_path / 'a.png').shape
  assert height < 300
  assert width < 1000


def test_a_long_title_is_in_several_lines(tmp_path):
  """It takes little of the width, and none of the rows beside its own."""
  x = np.full((3, 64, 64, 1), -1.0)
  options = {'guidance': 2.0, 'grid': {'name': 'shifted', 'shift': 5.0}}
  drawn = [
    (SweepEntry('student', 'euler', 64, options), x),
    (SweepEntry('student', 'euler', 4), x),
  ]
  mosaic.side_by_side(tmp_path / 'a.png', drawn)
  page = imread(tmp_path / 'a.png')[..., :3]
  short, long = mosaic.HEAD, mosaic.HEAD + 70
  left = find_left(page, long, 0)
  assert 200 < left < 340
  inked = [
    (page[y : y + 64, :left] < 0.9).any(axis=(1, 2)) for y in (short, long)
  ]
  assert [x.sum() for x in inked] == pytest.approx([20, 45], abs=8)
  assert (page[short + 64 : long, :left] == 1).all()


def test_points_over_the_data(tmp_path):
  image, name, models = draw(tmp_path, points())
  assert name == 'teacher_and_student.png'
  height, width, _ = image.shape
  assert 700 < width < 800
  assert 800 < height < 900
  assert models['teacher'].calls[0]['n'] == 2000
  assert models['teacher'].calls[0]['cond'] == {}
  colours = canvas.colours(['teacher', 'student'])
  inked = {role: inks(image, colour) for role, colour in colours.items()}
  half = height / 2
  assert inked['teacher'].mean() < half < inked['student'].mean()


def inks(image, colour):
  """The rows in which there are pixels of about this colour."""
  near = np.abs(image[..., :3] - mpl.colors.to_rgb(colour)).max(axis=-1) < 0.1
  return np.argwhere(near)[:, 0]


@pytest.mark.parametrize(
  ('num_classes', 'examples', 'labels'),
  [
    (0, None, None),
    (3, None, [0, 1, 2]),
    (3, 5, [0, 1, 2, 0, 1]),
    (40, None, [*range(40)]),
    (1000, None, [*range(0, 1000, 25)]),
    (1000, 3, [0, 1, 2]),
  ],
)
def test_how_many_columns(num_classes, examples, labels, tmp_path):
  x0 = np.zeros((12, 8, 8, 3), np.float32)
  label = np.full(12, 2, np.int32)  # pictures go through the classes instead
  spec = DataSpec.labelled((8, 8, 3), num_classes)
  source = Data(spec, {'x0': x0, 'label': label})
  _, _, models = draw(tmp_path, source, examples=examples)
  (call,) = models['student'].calls
  assert call['n'] == (len(labels) if labels else 10)
  assert [v.tolist() for v in call['cond'].values()] == [labels] * bool(labels)


def test_prompts_are_drawn_in_turn_and_written_over_the_columns(tmp_path):
  x0 = np.zeros((12, 8, 8, 3), np.float32)
  cond = {'text': Condition((1,)), 'label': Condition((), 'int32', 3)}
  source = Data(DataSpec((8, 8, 3), cond), {'x0': x0})
  prompts = ('a $1 fire', 'صورة', 'a long prompt ' * 40)
  image, _, models = draw(tmp_path, source, prompts=prompts)
  (call,) = models['student'].calls
  lengths = [len(each) for each in prompts]
  assert call['n'] == 3
  assert call['cond']['text'][:, 0].tolist() == lengths
  assert call['cond']['label'].tolist() == [0, 1, 2]
  plain, _, models = draw(
    tmp_path / 'more', source, prompts=prompts[:2], examples=3
  )
  (call,) = models['student'].calls
  assert call['cond']['text'][:, 0].tolist() == [*lengths[:2], lengths[0]]
  assert image.shape == plain.shape
  head = slice(50, mosaic.HEAD)
  assert (image[head] < 1).sum() > (plain[head] < 1).sum() > 100
  (sheet, *_) = (tmp_path / 'sheets').iterdir()
  with Image.open(sheet) as opened:
    assert json.loads(opened.text[ABOUT])['prompts'] == [*prompts]


def test_no_global_state_is_touched(tmp_path):
  before = dict(mpl.rcParams)
  draw(tmp_path, digits())
  assert dict(mpl.rcParams) == before


def test_a_file_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / 'samples' / 'a.png'
  canvas.save(canvas.new_figure(1, 1), path)
  old = path.read_bytes()

  def die(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, 'replace', die)
  with pytest.raises(KeyboardInterrupt):
    canvas.save(canvas.new_figure(2, 2), path)
  assert path.read_bytes() == old
  assert [p.name for p in path.parent.glob('*.png')] == ['a.png']


@pytest.mark.parametrize('shape', [(3,), (8, 8, 2), (8, 8), (4, 8, 8, 3)])
def test_what_has_no_picture_is_refused(shape, tmp_path):
  source = Data(DataSpec(shape), {'x0': np.zeros((2, *shape), np.float32)})
  with pytest.raises(
    ValueError, match=r'^shape = .* must be \[h, w, 1 or 3\] of'
  ):
    draw(tmp_path, source)


def test_no_examples_are_refused(tmp_path):
  with pytest.raises(ValueError, match='examples = 0 must be at least 1'):
    draw(tmp_path, digits(), examples=0)


def test_nowhere_nothing_is_written(monkeypatch):
  """As on all hosts but the first, whose disks need no room."""
  monkeypatch.setattr('os.replace', lambda *_: pytest.fail('it was written'))
  model = Replay(points().arrays['x0'])
  sweep = {'student': [['euler', 1]]}
  assert not [
    *pictures({'student': model}, points(), None, NOWHERE, sweep=sweep)
  ]
