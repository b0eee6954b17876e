"""Prompts as conditions, by the encoder that a spec records."""

import collections
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowdistill.build.texts import read_text
from flowdistill.config.bind import nearest
from flowdistill.datasets.folder import say
from flowdistill.datasets.texts import shortened, too_long
from flowdistill.files.paths import expand
from flowdistill.files.regular import open_regular
from flowdistill.flow.spec import DataSpec

LONGEST = 2**26  # bytes of a file of prompts
MOST = 5  # unknown words in a message


def encode_prompts(
  spec: DataSpec, prompts: str | Sequence[str]
) -> dict[str, np.ndarray]:
  """The conditions of prompts, name -> [number of prompts, ...].

  Args:
    spec: of the examples that a network was trained on.
    prompts: one, or several; the empty one is the null condition.

  Raises:
    ValueError: if there is none, the spec does not say how captions were
      encoded, or a prompt has words that were never trained on.
  """
  prompts = [prompts] if isinstance(prompts, str) else list(prompts)
  if not prompts or not all(isinstance(each, str) for each in prompts):
    raise ValueError(f'prompts = {prompts} must be one text or several')
  if spec.text is None:
    raise ValueError(
      f'prompts have no effect: these examples are {spec}, and no dataset.text '
      'made them of captions'
    )
  encoder = read_text(spec.text)
  for prompt in prompts:
    check_words(prompt, encoder)
  if cut := too_long(encoder, prompts, 'prompts'):
    say(cut)
  return encoder.encode(prompts)


def check_words(prompt: str, encoder: Any) -> None:
  """Refuses words without a meaning, which would be drawn as noise."""
  unknown = [*collections.Counter(encoder.unknown(prompt))]
  if not unknown:
    return
  near = [nearest(word, encoder.vocabulary) for word in unknown[:MOST]]
  words = ', '.join(
    repr(word) + (f' (did you mean {known!r}?)' if known else '')
    for word, known in zip(unknown, near, strict=False)
  )
  more = ', ...' if len(unknown) > MOST else ''
  raise ValueError(
    f'the prompt {shortened(prompt)} has words that no caption of the training '
    f'had: {words}{more}'
  )


def read_prompts(given: str) -> list[str]:
  """The prompts of a file, one per line, or of a text that is no file's name.

  Spaces around a prompt and empty lines are left out.

  Raises:
    ValueError: if there is none, or the file cannot be read.
  """
  text = _content(given) if _names_file(given) else given
  prompts = [line.strip() for line in text.splitlines() if line.strip()]
  if not prompts:
    raise ValueError('it has no prompt: give one per line')
  return prompts


def _names_file(given: str) -> bool:
  """Whether it is a path: of something that is there, or one in one word."""
  path = expand(given, f'prompts = {given!r}') if given[:1] == '~' else given
  if os.path.exists(path):
    return True
  one_word = not any(map(str.isspace, given))
  return one_word and bool(os.path.splitext(given)[1] or os.sep in given)


def _content(given: str) -> str:
  try:
    with open_regular(expand(given, f'prompts = {given!r}')) as file:
      data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
      raise ValueError(f'it has more than {LONGEST:,} bytes')
    return data.decode('utf-8-sig')
  except (OSError, ValueError) as error:
    raise ValueError(f'the file cannot be read: {error}') from error
