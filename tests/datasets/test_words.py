"""Words of captions in many scripts, and lists of them."""

import pytest

from flowdistill.datasets.words import count_words, read_words, words_of


@pytest.mark.parametrize(
  ('caption', 'words'),
  [
    ('', []),
    (' \n\t', []),
    ('A red_square, 3 of them!', ['a', 'red_square', '3', 'of', 'them']),
    ('waving hand: dark skin tone', ['waving', 'hand', 'dark', 'skin', 'tone']),
    ('+ _ = $', []),
    ('🔥🔥 fire', ['🔥', '🔥', 'fire']),
    ('❤️', ['❤']),  # with a variation selector
    ('«صورة» حصان', ['صورة', 'حصان']),
    ('हिन्दी चित्र', ['हिन्दी', 'चित्र']),  # marks belong to their letters
    ('红色 正方形', ['红色', '正方形']),
    ('Cafe\u0301 CAFÉ', ['café', 'café']),  # one spelling
    ("it's", ['it', 's']),
  ],
)
def test_words_of_a_caption(caption, words):
  assert words_of(caption) == words


def test_ascii_words_are_the_same_beside_other_scripts():
  caption = 'A red_square, 3 _ + of them'
  assert words_of(f'{caption} é')[:-1] == words_of(caption)


def test_a_long_caption_ends():
  assert len(words_of('word ' * 10_000)) == 10_000
  assert len(words_of('é' * 10_000)) == 1


def test_words_that_are_frequent_enough_are_in_alphabetical_order():
  captions = ['b a', 'b a c', 'b']
  assert count_words(captions, 1) == ['a', 'b', 'c']
  assert count_words(captions[::-1], 2) == ['a', 'b']


def test_a_list_is_read(tmp_path):
  path = tmp_path / 'words.txt'
  path.write_text('\ufeffred\r\n\nblue\n', 'utf-8')
  assert read_words(str(path)) == ['red', 'blue']


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'red\nRed', "has 'Red'"),
    (b'red\nred', "has 'red'"),
    (b'a b', "has 'a b'"),
    (b'\xff', 'cannot be read'),
    (None, 'cannot be read'),
  ],
)
def test_what_is_no_list_is_refused(tmp_path, content, message):
  path = tmp_path / 'words.txt'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=f'^vocabulary = .*{message}'):
    read_words(str(path))
