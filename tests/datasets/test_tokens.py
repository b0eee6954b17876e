"""Words and bytes as integers."""

import numpy as np
import pytest

from flowdistill.datasets.tokens import Bytes, Words

COLOURS = Words(3, ('red', 'blue', 'square'))


def test_words_are_their_places_then_padding():
  found = COLOURS.encode(['A BLUE square', 'red', ''])
  assert found['tokens'].tolist() == [[3, 1, 2], [0, 4, 4], [4, 4, 4]]
  assert found['mask'].tolist() == [
    [True] * 3,
    [True, False, False],
    [False] * 3,
  ]


def test_bytes_are_those_of_utf_8():
  found = Bytes(6).encode(['aé', 'a', ''])
  assert found['tokens'].tolist() == [
    [97, 195, 169, 256, 256, 256],
    [97, *[256] * 5],
    [256] * 6,
  ]
  np.testing.assert_array_equal(found['mask'], found['tokens'] < 256)


@pytest.mark.parametrize('caption', ['abcdé', 'abc🔥', '🔥🔥', 'مرحبا'])
def test_no_character_is_cut(caption):
  row = Bytes(5).encode([caption])
  text = bytes(row['tokens'][0][row['mask'][0]].tolist()).decode('utf-8')
  assert caption.startswith(text)
  assert 5 - 4 < len(text.encode()) <= 5


@pytest.mark.parametrize('caption', ['\ud800', '\x00', 'a' * 10_000, '🔥'])
@pytest.mark.parametrize('encoder', [COLOURS, Bytes(8)], ids=['words', 'bytes'])
def test_any_caption_has_tokens(encoder, caption):
  found = encoder.encode([caption])
  for name, condition in encoder.conditions.items():
    assert found[name].shape == (1, *condition.shape)
    assert found[name].dtype == condition.dtype
  padding = encoder.conditions['tokens'].null
  assert 0 <= found['tokens'].min() <= found['tokens'].max() <= padding


def test_words_that_were_never_trained_are_named():
  assert COLOURS.unknown('a red Circle') == ['a', 'circle']
  assert Words(3, ('red',), rare=True).unknown('a red circle') == []
  assert Bytes(3).unknown('a red circle') == []
