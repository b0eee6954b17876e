"""CLIP's tokens by hand, and against transformers on a small vocabulary."""

import gzip

import numpy as np
import pytest

from flowdistill.networks.features.clip_tokens import (
  LETTERS,
  MERGES,
  make_tokenizer,
  read_tokenizer,
  split,
)

PAIRS = [
  *[('l', 'o'), ('lo', 'w</w>'), ('t', 'h'), ('th', 'e</w>'), ('e', 'r</w>')],
  *[('lo', 'w'), ('low', 'er</w>'), ('a', 'a'), ('Ã', '¤'), ("'", 's</w>')],
]
TOKENS = make_tokenizer(PAIRS)
CAPTIONS = [
  'the low lower',
  "  The cat's\tLOW,low!! 42½",
  "we've they're I'm don't he'll she'd o'clock !'s",
  'Äpfel  äpfel ÄPFEL a\u0308 日本語 שלום',
  '😀👍🏽 aaaa aaa “quoted” x²',
  '',
  '...',
]


def test_words_by_hand():
  assert list(split("The CAT's 42... it's\n3rd")) == [
    *('the', 'cat', "'s", '4', '2', '...', 'it', "'s", '3', 'rd')
  ]
  assert list(split("o'clock !'s")) == ['o', "'", 'clock', "!'", 's']


def test_merges_by_hand():
  assert TOKENS.merge('low') == ['low</w>']
  assert TOKENS.merge('lower') == ['lower</w>']
  assert TOKENS.merge('lowest') == ['low', 'e', 's', 't</w>']
  assert TOKENS.merge('aaaaa') == ['aa', 'aa', 'a</w>']
  assert TOKENS.merge('ä') == ['Ã', '¤</w>']  # no pair of a word's end


def test_numbers_by_hand():
  """256 bytes, the same at the end of a word, the merges, start and end."""
  assert len(LETTERS) == len(set(LETTERS.values())) == 256
  assert TOKENS.numbers['!'] == 0
  assert TOKENS.numbers['!</w>'] == 256
  assert TOKENS.encode('low') == [512 + 1]
  assert (TOKENS.start, TOKENS.end) == (512 + 10, 512 + 11)
  assert MERGES == 49152 - 256 - 2


def test_rows_are_cut_and_filled_up():
  rows = TOKENS(['low', 'low low low low', ''], length=4)
  low, start, end = 513, TOKENS.start, TOKENS.end
  expected = [
    [start, low, end, end],
    [start, low, low, end],
    [start] + [end] * 3,
  ]
  np.testing.assert_array_equal(rows, expected)
  assert rows.dtype == np.int32


def test_they_are_those_of_transformers():
  transformers = pytest.importorskip('transformers')
  start, end = '<|startoftext|>', '<|endoftext|>'
  vocab = dict(TOKENS.numbers) | {start: TOKENS.start, end: TOKENS.end}
  theirs = transformers.CLIPTokenizer(vocab=vocab, merges=list(PAIRS))
  for caption in CAPTIONS:
    found = [TOKENS.start, *TOKENS.encode(caption), TOKENS.end]
    assert found == theirs(caption)['input_ids'], caption


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_is_read(tmp_path, zipped):
  text = '\n'.join(['#version: 0.2', *map(' '.join, PAIRS), 'more x', ''])
  path = tmp_path / 'vocabulary'
  content = text.encode('utf-8')
  path.write_bytes(gzip.compress(content) if zipped else content)
  assert read_tokenizer(str(path), merges=len(PAIRS)) == TOKENS


def test_files_that_are_none_are_refused(tmp_path):
  path = tmp_path / 'x.txt'
  with pytest.raises(ValueError, match='there is no file .*x.txt'):
    read_tokenizer(str(path))
  path.write_text('#version\na b\nc d\n')
  with pytest.raises(ValueError, match='a pair of symbols in each of 3 lines'):
    read_tokenizer(str(path), merges=3)
  path.write_text('#version\na b c\nc d\n')
  with pytest.raises(ValueError, match='a pair of symbols in each of 2 lines'):
    read_tokenizer(str(path), merges=2)
  path.write_bytes(gzip.compress(b'#version\na b\n' * 99)[:-9])
  with pytest.raises(ValueError, match='x.txt is damaged or not text'):
    read_tokenizer(str(path), merges=1)
  path.write_bytes(b'#version\n\xff\xff a\n')
  with pytest.raises(ValueError, match='x.txt is damaged or not text'):
    read_tokenizer(str(path), merges=1)
