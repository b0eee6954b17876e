"""What is compared; with diffusers itself in tests/test_published_story.py."""

import importlib.util
import pathlib

import numpy as np
import pytest

from flowdistill.build import diffusers_check
from flowdistill.build.diffusers_check import Asked, Comparison

FILE = pathlib.Path('lora.safetensors')
UPDATES = {'a.weight': np.float32([[2, 0], [0, 1]]), 'b.weight': np.eye(2)}


class Models:
  """In place of those of diffusers: answers x + 1 at all times."""

  @staticmethod
  def answer(network, model, x, t, s, cond):
    del network, t, s, cond
    return x + model


def compared(model):
  x = np.ones((2, 2, 2, 1), np.float32)
  asked = Asked(x, np.ones(2), np.ones(2), {}, x + 1)
  return diffusers_check._compared(FILE, 'flux', model, asked)


def test_answers_are_compared_with_their_largest_number(monkeypatch):
  monkeypatch.setattr(
    diffusers_check.importlib, 'import_module', lambda _: Models
  )
  found = compared(1.001)
  assert found.largest == pytest.approx(1e-3, rel=1e-3)
  assert found.relative == pytest.approx(5e-4, rel=1e-3)
  for wrong in (1.01, np.nan):
    with pytest.raises(ValueError, match=r'^lora\.saf.*answers otherwise: the'):
      compared(wrong)


def test_every_update_is_measured():
  def worst(**changes):
    found = {f'{name}.weight': x for name, x in changes.items()}
    return diffusers_check._compare_updates(FILE, UPDATES | found, UPDATES)

  assert worst() == 0
  assert worst(b=np.eye(2) * 1.0005) == pytest.approx(5e-4)
  for name, wrong in {
    'a': 0.5 * UPDATES['a.weight'],  # α is lost
    'b': np.zeros((2, 2)),  # the layer is left out
    'c': np.ones((2, 2)),  # another is updated
  }.items():
    with pytest.raises(ValueError, match=rf'diffusers updates {name}\.weight'):
      worst(**{name: wrong})


def test_what_is_not_installed_is_named(monkeypatch):
  def missing(name):
    return None if name == 'peft' else name

  monkeypatch.setattr(importlib.util, 'find_spec', missing)
  with pytest.raises(ValueError, match=r'^--check needs peft, .*stalled: pip'):
    diffusers_check.check_installed()


def test_it_says_what_was_measured():
  text = str(Comparison(2e-6, 1e-6, 3, 4e-7))
  assert '2e-06, 1e-06 of the' in text
  assert 'the updates of 3 layers differ by at most 4e-07' in text
  assert 'layers' not in str(Comparison(2e-6, 1e-6))
