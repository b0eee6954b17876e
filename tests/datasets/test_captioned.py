"""Captions of any source as conditions."""

import copy
import functools

import numpy as np
import pytest
from datasets.tiny_sets import INDEXED, SETS, number_of, open_set

from flowdistill.datasets.captioned import (
  Captioned,
  encoded_as,
  with_text,
)
from flowdistill.datasets.digits import WORDS as NAMES
from flowdistill.datasets.digits import digits
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.texts import TEXTS
from flowdistill.flow.spec import DataSpec

WORDS = functools.partial(TEXTS['words'], length=4)


@pytest.mark.parametrize('name', sorted(TEXTS.keys() - {'encoded'}))
def test_examples_have_their_captions_as_conditions(name):
  source, plain = digits(text=TEXTS[name]), digits()
  assert len(source) == len(plain)
  rows = source[np.arange(9)]
  np.testing.assert_array_equal(rows['x0'], plain[np.arange(9)]['x0'])
  expected = source.encoder.encode(source.captions[:9])
  assert expected.keys() | {'label'} == source.spec.cond.keys()
  for condition, array in expected.items():
    np.testing.assert_array_equal(rows[condition], array)
    np.testing.assert_array_equal(source[3][condition], array[3])
    np.testing.assert_array_equal(
      source.conditions(np.arange(9))[condition], array
    )
  assert source.captions[:3] == [
    'the digit zero', 'the digit one', 'the digit two'
  ]  # fmt: skip


def test_batches_have_the_text_of_their_pictures():
  batch = next(make_batches(digits(text=WORDS), batch_size=64, seed=1))
  vocabulary = digits(text=WORDS).encoder.vocabulary
  said = [vocabulary[tokens[2]] for tokens in batch['tokens']]
  assert said == [NAMES[label] for label in batch['label']]


def in_files(folder, name, captions, text, **options):
  """Three batches of four of a data set in files, as one, and the source."""
  source = open_set(folder, name, captions, text=text, **options)
  batches = make_batches(source, batch_size=4, seed=0)
  parts = [next(batches) for _ in range(3)]
  return source, {
    key: np.concatenate([part[key] for part in parts]) for key in parts[0]
  }


@pytest.mark.parametrize('name', SETS)
@pytest.mark.parametrize('text', sorted(TEXTS.keys() - {'encoded'}))
def test_pictures_in_files_have_their_captions(tmp_path, name, text):
  """Also those of a stream, whose words are those of a file."""
  law = functools.partial(TEXTS[text], length=3)
  if text == 'words':
    path = tmp_path / 'words.txt'
    path.write_text('\n'.join(['number', *map(str, range(7))]))
    law = functools.partial(law, vocabulary=str(path))
  captions = [f'number {k}' for k in range(7)]
  source, batch = in_files(tmp_path, name, captions, law)
  expected = source.encoder.encode(captions)
  assert source.spec.cond.keys() == expected.keys()
  assert source.spec.text == source.encoder.to_json()
  assert batch.keys() == {'x0', *expected}
  numbers = [number_of(x) for x in batch['x0']]
  assert {*numbers} == {*range(7)}
  for condition, array in expected.items():
    np.testing.assert_array_equal(batch[condition], array[numbers])


ODD = ['', 'x' * 10_000, '👩‍🚒 🔥', 'صورة حصان', 'a\nb']


@pytest.mark.parametrize('name', SETS)
def test_captions_of_many_forms_become_conditions(tmp_path, name):
  """Empty is null, and the first bytes of a long one are used."""
  law = functools.partial(TEXTS['bytes'], length=24)
  source, batch = in_files(tmp_path, name, ODD, law)
  numbers = [number_of(x) for x in batch['x0']]
  assert {*numbers} == {*range(len(ODD))}
  for k, tokens, mask in zip(
    numbers, batch['tokens'], batch['mask'], strict=True
  ):
    said = ODD[k].encode()[:24]
    assert bytes(tokens[mask].astype(np.uint8).tolist()) == said
  empty = numbers.index(0)
  for key, condition in source.spec.cond.items():
    np.testing.assert_array_equal(batch[key][empty], condition.full(1)[0])


@pytest.mark.parametrize('name', INDEXED)
def test_long_captions_of_files_are_refused_if_not_cut(tmp_path, name):
  law = functools.partial(TEXTS['bytes'], length=24, cut=False)
  with pytest.raises(ValueError, match='has 10000 bytes; with cut = False'):
    open_set(tmp_path, name, ODD, text=law)


def test_long_captions_of_a_stream_are_left_out_if_not_cut(tmp_path, caplog):
  law = functools.partial(TEXTS['bytes'], length=24, cut=False)
  _, batch = in_files(tmp_path, 'stream', ODD, law, max_broken=0.2)
  assert {number_of(x) for x in batch['x0']} == {0, 2, 3, 4}
  assert "'stream.tar/0001' is left out: 'xxx" in caplog.text
  with pytest.raises(ValueError, match='1 of 5 samples cannot be read, more'):
    in_files(tmp_path, 'stream', ODD, law)


@pytest.mark.parametrize('name', SETS)
def test_a_picture_without_a_caption_is_left_out_and_named(
  tmp_path, name, caplog
):
  captions = ['number 0', 'number 1', None, 'number 3', 'number 4']
  law = functools.partial(TEXTS['bytes'], length=8)
  caplog.set_level('INFO', logger='absl')
  _, batch = in_files(tmp_path, name, captions, law, max_broken=0.2)
  numbers = [number_of(x) for x in batch['x0']]
  assert {*numbers} == {0, 1, 3, 4}
  assert batch['tokens'][:, 7].tolist() == [ord('0') + k for k in numbers]
  assert 'no caption' in caplog.text or 'its caption is null' in caplog.text
  with pytest.raises(ValueError, match=r'1 of 5 .* max_broken = 0\.01'):
    in_files(tmp_path, name, captions, law)


def test_words_of_a_stream_need_a_file(tmp_path):
  with pytest.raises(ValueError, match="vocabulary = '' must name a file"):
    open_set(tmp_path, 'stream', ['number 0'], text=TEXTS['words'])


@pytest.mark.parametrize('name', SETS)
def test_the_encoder_of_a_record_encodes_files_too(tmp_path, name):
  """As in a run that goes on, whatever the words of the files are now."""
  source = open_set(tmp_path, name, ['number 0'] * 4, text=TEXTS['bytes'])
  record = TEXTS['words'](['number 0'], length=3).to_json()
  again = encoded_as(source, record)
  assert again.spec.text == record
  batch = next(make_batches(again, batch_size=2, seed=0))
  assert batch['tokens'].tolist() == [[1, 0, 3]] * 2


class Random:
  """Examples that are drawn anew in each epoch."""

  spec, captions, figures = DataSpec((2,)), ['red', 'blue'], np.arange(2)

  def __len__(self):
    return 2

  def draw(self, index, epoch, seed):
    x0 = np.repeat((index + 10 * epoch + seed)[:, None], 2, 1)
    return {'x0': x0.astype(np.float32)}


def test_examples_that_are_drawn_have_it_too():
  source = with_text(Random(), WORDS)
  batches = make_batches(source, batch_size=2, seed=3)
  for epoch in range(2):
    batch = next(batches)
    index = batch['x0'][:, 0] - 3 - 10 * epoch
    np.testing.assert_array_equal(batch['tokens'][:, 0], 1 - index)
  assert source.figures is Random.figures
  assert not hasattr(digits(text=WORDS), 'draw')
  assert copy.copy(source).spec == source.spec


def test_the_vocabulary_of_other_data():
  """Words that those do not have are token V, padding V + 1."""
  source = with_text(Random(), WORDS)
  other = encoded_as(source, TEXTS['words'](['red'], length=3).to_json())
  assert other.encoder.encode(['red', 'blue'])['tokens'].tolist() == [
    [0, 2, 2],
    [1, 2, 2],
  ]
  assert encoded_as(digits(), other.encoder.to_json()).spec == digits().spec


def test_it_must_have_captions_and_no_such_conditions():
  assert with_text(digits(), None).spec == digits().spec
  with pytest.raises(ValueError, match='text has no effect: these examples'):
    with_text(digits(), WORDS)
  twice = digits(text=WORDS)
  assert isinstance(twice, Captioned)
  with pytest.raises(ValueError, match=r"text makes \['mask', 'tokens'\]"):
    with_text(twice, WORDS)
  with pytest.raises(ValueError, match='with cut = False it must'):
    digits(text=functools.partial(TEXTS['words'], length=2, cut=False))
