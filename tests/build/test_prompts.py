"""Prompts as conditions, of a file or as they are."""

import functools
import re

import numpy as np
import pytest

from flowdistill.build.prompts import encode_prompts, read_prompts
from flowdistill.datasets.digits import digits
from flowdistill.datasets.texts import TEXTS
from flowdistill.flow.spec import DataSpec

PROMPTS = ['the digit three', '', 'digit nine the']


def spec(name='words', length=4, **options):
  """Of digits with text, as a run has recorded it."""
  text = functools.partial(TEXTS[name], length=length, **options)
  return DataSpec.of(digits(text=text).spec.to_json())


@pytest.mark.parametrize('name', sorted(TEXTS.keys() - {'encoded'}))
def test_prompts_are_encoded_as_the_captions_were(name):
  found = encode_prompts(spec(name), PROMPTS)
  source = digits(text=functools.partial(TEXTS[name], length=4))
  places = [source.captions.index('the digit three')]
  for condition, rows in source.conditions(np.asarray(places)).items():
    if condition != 'label':
      np.testing.assert_array_equal(found[condition][:1], rows)
      null = spec(name).cond[condition].full(1)
      np.testing.assert_array_equal(found[condition][1:2], null)
  one = encode_prompts(spec(name), PROMPTS[2])
  for condition, rows in one.items():
    np.testing.assert_array_equal(rows, found[condition][2:])


@pytest.mark.parametrize(
  'prompt', ['🔥', 'صورة حصان', 'the digit ' * 1000, '\x00', 'हिन्दी']
)
@pytest.mark.parametrize('name', ['word_vectors', 'bytes'])
def test_any_prompt_can_be_drawn_without_a_vocabulary(name, prompt):
  for condition, rows in encode_prompts(spec(name), [prompt]).items():
    assert rows.shape == (1, *spec(name).cond[condition].shape)
    if condition == 'mask':
      assert rows.any() == (prompt != '\x00' or name == 'bytes')


def test_words_that_were_never_trained_are_refused():
  message = (
    "the prompt 'the dgit 🔥' has words that no caption of the training had: "
    "'dgit' (did you mean 'digit'?), '🔥'"
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    encode_prompts(spec(), ['the digit one', 'the dgit 🔥'])
  rare = spec(least=200)  # of the words, 'the' and 'digit' are in all captions
  assert encode_prompts(rare, ['the dgit'])['mask'].sum() == 2


@pytest.mark.parametrize(
  ('prompts', 'of', 'message'),
  [
    ([], spec, r'prompts = \[\] must be one text or several'),
    ([3], spec, r'prompts = \[3\] must be one text or several'),
    (['a'], digits, r'prompts have no effect: these examples are \[8, 8, 1\]'),
    (
      ['the digit three is here'],
      functools.partial(spec, 'bytes', 18, cut=False),
      'has 23 bytes; with cut = False',
    ),
  ],
)
def test_what_is_no_prompt_is_refused(prompts, of, message):
  of = of().spec if of is digits else of()
  with pytest.raises(ValueError, match=message):
    encode_prompts(of, prompts)


def test_a_file_has_a_prompt_in_each_line(tmp_path):
  path = tmp_path / 'prompts'
  path.write_text('\ufeff a red square \r\n\n🔥\nمرحبا', 'utf-8')
  assert read_prompts(str(path)) == ['a red square', '🔥', 'مرحبا']


@pytest.mark.parametrize(
  ('text', 'prompts'),
  [
    ('a red square', ['a red square']),
    ('fire', ['fire']),
    ('a. b.\n c/d e ', ['a. b.', 'c/d e']),
    ('word ' * 10_000, [('word ' * 10_000).strip()]),
  ],
)
def test_a_text_is_its_prompts(text, prompts):
  assert read_prompts(text) == prompts


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('empty.txt', b'', 'it has no prompt'),
    ('blank.txt', b' \n\n', 'it has no prompt'),
    ('bytes.txt', b'\xff\xfe', 'the file cannot be read'),
    ('missing.txt', None, 'the file cannot be read'),
    ('nowhere/prompts', None, 'the file cannot be read'),
    ('', None, 'the file cannot be read'),  # a folder
  ],
)
def test_a_file_that_has_none_is_refused(tmp_path, name, content, message):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=f'^{message}'):
    read_prompts(str(path))
