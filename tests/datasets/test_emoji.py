"""The data set of emoji, of a font that is made here, and of the real one."""

import io
import pathlib
import re

import numpy as np
import PIL.Image
import pytest
from datasets import tiny_font

from flowdistill.datasets import DATASETS
from flowdistill.datasets.emoji import FONT, NAMES, emoji
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.texts import word_vectors


@pytest.fixture
def files(tmp_path):
  """The options that name a font and its names."""
  font, names = tmp_path / 'font.ttf', tmp_path / 'names.txt'
  font.write_bytes(tiny_font.font())
  names.write_text(tiny_font.NAMES)
  return {'path': str(font), 'names': str(names)}


def at(source, caption):
  return source[source.captions.index(caption)]


def original(name):
  order = ['.notdef', *tiny_font.CHARACTERS, *tiny_font.LIGATED]
  png = tiny_font.png(order.index(name))
  return np.asarray(PIL.Image.open(io.BytesIO(png)), np.float32) / 127.5 - 1


def test_each_is_its_bitmap_on_white_in_the_centre_of_a_square(files):
  source = DATASETS['emoji'](**files, size=17)
  assert source.spec.shape == (17, 17, 3)
  x0 = at(source, 'man firefighter')['x0']
  assert x0.dtype == np.float32
  np.testing.assert_allclose(x0[4:12], original('fireman')[4:12, :, :3])
  np.testing.assert_array_equal(x0[:4], 1)
  np.testing.assert_array_equal(x0[12:], 1)


def test_with_alpha_it_has_four_channels(files):
  x0 = at(emoji(**files, size=17, background='alpha'), 'hot pepper')['x0']
  np.testing.assert_allclose(x0[:16], original('pepper'))
  np.testing.assert_array_equal(x0[16:], -1)


def test_an_edge_is_not_darkened_when_it_is_reduced(files):
  """Colours are premultiplied: nothing has no colour."""
  x0 = at(emoji(**files, size=5, background='alpha'), 'hot pepper')['x0']
  edge = (x0[..., 3] > -0.9) & (x0[..., 3] < 0.9)
  assert edge.any()
  near = np.abs(x0[edge][:, :3] - original('pepper')[8, 8, :3])
  assert near.max() < 0.05


def test_labels_are_the_groups_that_occur_in_the_order_of_the_file(files):
  source = emoji(**files)
  assert source.spec.classes == (
    'People & Body',
    'Component',
    'Food & Drink',
    'Flags',
  )
  finer = emoji(**files, classes='subgroup')
  assert finer.spec.classes == (
    'hand-fingers-open',
    'person-role',
    'skin-tone',
    'food-vegetable',
    'country-flag',
    'other',
  )
  assert at(finer, 'flag: Land')['label'] == 4
  assert at(source, 'woman: fire engine')['label'] == 0
  assert emoji(**files, classes=None).spec.cond == {}
  plain = emoji(path=files['path'], names=None, classes=None)
  assert 'waving hand sign' in plain.captions


def two_words(captions):
  return word_vectors(captions, length=2)


def test_words_of_the_name_are_a_condition(files):
  source = emoji(**files, classes=None, text=two_words)
  assert {k: c.shape for k, c in source.spec.cond.items()} == {
    'text': (2, 64),
    'mask': (2,),
  }
  one, other = (
    at(source, n) for n in ('waving hand', 'waving hand: dark skin tone')
  )
  np.testing.assert_array_equal(one['text'], other['text'])
  assert not np.array_equal(one['text'], at(source, 'hot pepper')['text'])
  assert at(source, 'man')['mask'].tolist() == [True, False]
  np.testing.assert_array_equal(
    source.conditions(np.arange(2))['text'], source[np.arange(2)]['text']
  )


@pytest.mark.parametrize('share', [0.1, 0.3, 0.5, 0.9])
def test_a_figure_is_on_one_side_of_the_split(files, share):
  parts = [
    emoji(**files, split=split, validation=share)
    for split in ('train', 'validation')
  ]
  assert sum(map(len, parts)) == len(emoji(**files))
  train, held_out = ({*part.figures.tolist()} for part in parts)
  assert train and held_out and not train & held_out
  whole = emoji(**files)
  by_name = dict(zip(whole.captions, whole.figures, strict=True))
  assert by_name['man'] == by_name['woman']
  assert by_name['waving hand'] == by_name['waving hand: dark skin tone']
  assert by_name['man'] != by_name['man firefighter']


def test_a_list_names_the_figures_that_are_held_out(files, tmp_path):
  path = tmp_path / 'held_out.txt'
  path.write_text('1F44B\n')
  source = emoji(**files, split='validation', held_out=str(path))
  assert {c.split(':')[0] for c in source.captions} == {'waving hand'}
  path.write_text('1F44C\n')
  with pytest.raises(ValueError, match="no example is '1F44C'; they are named"):
    emoji(**files, split='validation', held_out=str(path))


def test_another_font_in_the_same_place_is_read_anew(files):
  before = len(emoji(**files))
  path = pathlib.Path(files['path'])
  path.write_bytes(tiny_font.font(['wave', 'man', 'flag']))
  assert (before, len(emoji(**files))) == (13, 3)


def test_batches_of_it(files):
  source = emoji(**files, size=8, text=two_words)
  batch = next(make_batches(source, batch_size=16, seed=0))
  assert batch['x0'].shape == (16, 8, 8, 3)
  assert batch['label'].shape == (16,)
  assert batch['text'].shape == (16, 2, 64)


def broken_picture(k):
  return tiny_font.png(k)[:40]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'size': 0}, r'size = 0 must lie in 1 \.\.\. 256'),
    ({'size': 257}, r'size = 257 must lie in 1 \.\.\. 256'),
    (
      {'background': 'black'},
      "background = 'black' must be 'white' or 'alpha'",
    ),
    (
      {'classes': 'groups'},
      "classes = 'groups' must be 'group', 'subgroup' or",
    ),
    ({'names': None}, "classes = 'group' needs names"),
    ({'split': 'test'}, "split = 'test' must be one of"),
    ({'path': ''}, "path = '' is not there: install the font"),
    ({'names': ''}, "names = '' is not there: install it"),
  ],
)
def test_bad_options_are_refused(files, options, message):
  with pytest.raises(ValueError, match=message):
    emoji(**{**files, **options})


def test_a_damaged_picture_is_refused(files):
  path = pathlib.Path(files['path'])
  path.write_bytes(tiny_font.font(data=broken_picture))
  with pytest.raises(ValueError, match='a picture in it: '):
    emoji(**files)


REAL = pytest.mark.skipif(
  not (pathlib.Path(FONT).is_file() and pathlib.Path(NAMES).is_file()),
  reason='fonts-noto-color-emoji and unicode-data are not installed',
)


@REAL
@pytest.mark.slow
def test_the_emoji_of_debian_have_their_names_and_groups():
  source = emoji(size=8)
  classes, labels = source.spec.classes, source.arrays['label']
  groups = {
    name: classes[k] for name, k in zip(source.captions, labels, strict=True)
  }
  assert (len(source), len(groups)) == (3926, 3926)
  people = ('couple with heart: man, man, light skin tone', 'waving hand')
  named = {
    'grinning face': 'Smileys & Emotion',
    'woman firefighter: dark skin tone': 'People & Body',
    **dict.fromkeys(people, 'People & Body'),
    'flag: Scotland': 'Flags',
    'flag: U.S. Outlying Islands or flag: United States': 'Flags',
    'flag: US-CA': 'Flags',
    'keycap: 7': 'Symbols',
  }
  assert {name: groups.get(name) for name in named} == named
  assert not [c for c in groups if 'joiner' in c or 'u+' in c]


@REAL
@pytest.mark.slow
def test_no_picture_of_debian_is_on_both_sides_of_the_split():
  train, held_out = (emoji(size=16, split=s) for s in ('train', 'validation'))
  assert 0.05 < len(held_out) / (len(train) + len(held_out)) < 0.2
  pictures, others = (
    {x.tobytes() for x in s.pixels} for s in (train, held_out)
  )
  assert not pictures & others
  mine, other = (
    {re.sub(r'[:,] [^:,]*skin tone', '', c) for c in source.captions}
    for source in (train, held_out)
  )
  assert not mine & other
