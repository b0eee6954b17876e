"""Fixtures and settings that more than one folder of tests uses."""

from collections.abc import Iterator

import hypothesis
import jax
import pytest

# The same examples on every run, and no deadline: the first one compiles.
hypothesis.settings.register_profile(
  'flowdistill', deadline=None, derandomize=True, max_examples=25
)
hypothesis.settings.load_profile('flowdistill')


@pytest.fixture
def x64() -> Iterator[None]:
  """Computes in float64, for what has to hold beyond float32."""
  with jax.enable_x64(True):
    yield
