"""The table of texts: what it makes of captions, and again of a record."""

import json

import numpy as np
import pytest
from defaults import defaults

from flowdistill.datasets.texts import KINDS, TEXTS, read_encoder, too_long

CAPTIONS = ['a red square', 'a blue square', '', 'ein Kreis']
HERE = [name for name in TEXTS if name != 'encoded']  # that is on disk
PROMPTS = [*CAPTIONS, 'a green square', '🔥', 'صورة حصان', 'word ' * 2000]


def test_what_a_config_may_name_and_its_defaults():
  assert defaults(TEXTS) == {
    'word_vectors': {'length': 16, 'cut': True},
    'words': {'length': 24, 'vocabulary': '', 'least': 1, 'cut': True},
    'bytes': {'length': 64, 'cut': True},
    'encoded': {'path': '', 'cut': True, 'verify': True},
  }


def assert_same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype
    np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize('name', HERE)
def test_the_record_makes_the_same_encoder(name):
  """After JSON, and for prompts that the data do not have."""
  encoder = TEXTS[name](CAPTIONS, length=5)
  assert isinstance(encoder, KINDS[name])
  again = read_encoder(json.loads(json.dumps(encoder.to_json())))
  assert again == encoder
  assert_same(again.encode(PROMPTS), encoder.encode(PROMPTS))


@pytest.mark.parametrize('name', HERE)
def test_a_caption_is_encoded_alone_as_among_others(name):
  encoder = TEXTS[name](CAPTIONS, length=5)
  whole = encoder.encode(PROMPTS)
  for k, prompt in enumerate(PROMPTS):
    assert_same(
      encoder.encode([prompt]), {n: a[k : k + 1] for n, a in whole.items()}
    )


@pytest.mark.parametrize('name', HERE)
def test_null_is_the_empty_prompt(name):
  encoder = TEXTS[name](CAPTIONS, length=5)
  null = {n: c.full(2) for n, c in encoder.conditions.items()}
  assert_same(encoder.encode(['', '']), null)


def test_the_vocabulary_is_that_of_any_captions_of_the_same_words():
  one, other = (TEXTS['words'](c) for c in (CAPTIONS, CAPTIONS[::-1]))
  assert one == other == TEXTS['words']([*CAPTIONS, *CAPTIONS[2:] * 3])
  assert one.vocabulary == ('a', 'blue', 'ein', 'kreis', 'red', 'square')


def test_rare_words_share_a_token_that_is_trained():
  encoder = TEXTS['words'](CAPTIONS, least=2)
  assert encoder.vocabulary == ('a', 'square')
  assert encoder.rare
  tokens = encoder.encode(['red', 'blue', 'new'])['tokens']
  assert tokens[:, 0].tolist() == [2, 2, 2]
  assert not TEXTS['words'](CAPTIONS).rare


def test_a_file_is_the_vocabulary(tmp_path):
  path = tmp_path / 'words.txt'
  path.write_text('square\na\nred\nblue\nein\nkreis\nhexagon')
  encoder = TEXTS['words'](CAPTIONS, vocabulary=str(path))
  assert encoder.vocabulary[-1] == 'hexagon'
  assert not encoder.rare
  path.write_text('square')
  assert TEXTS['words'](CAPTIONS, vocabulary=str(path)).rare


def test_captions_that_are_too_long_are_counted_or_refused():
  cut = TEXTS['word_vectors'](CAPTIONS, length=2)
  assert too_long(cut, CAPTIONS, 'captions') == (
    "2 of 4 captions have more than 2 words and are cut, such as 'a red square'"
  )
  assert not too_long(cut, ['a b', ''], 'captions')
  whole = TEXTS['bytes'](CAPTIONS, length=12, cut=False)
  assert not too_long(whole, ['a red square'], 'captions')
  with pytest.raises(ValueError, match="'a blue square' has 13 bytes; "):
    too_long(whole, CAPTIONS, 'captions')


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('bytes', {'length': 0}, r'length = 0 must lie in 1 \.\.\. 4096'),
    ('words', {'length': 5000}, r'length = 5000 must lie'),
    ('word_vectors', {'length': -1}, r'length = -1 must lie'),
    ('words', {'least': 0}, 'least = 0 must be at least 1'),
    ('words', {'least': 9}, "vocabulary = '4 captions' has no word"),
    ('words', {'least': 2, 'vocabulary': 'x'}, 'least = 2 has no effect'),
  ],
)
def test_options_out_of_range_are_refused(name, options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    TEXTS[name](CAPTIONS, **options)


@pytest.mark.parametrize(
  'record', [{}, {'name': 'word'}, {'name': 'bytes', 'size': 3}]
)
def test_another_record_is_refused(record):
  with pytest.raises(ValueError, match='makes no text'):
    read_encoder(record)
