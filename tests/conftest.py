"""Fixtures and options that more than one folder of tests uses.

Most of the time of a test is compilation, so XLA optimises little here, in the
processes that tests start too. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` is
with all optimisations.
"""

import os
from collections.abc import Iterator

os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

import hypothesis
import jax
import pytest
from shares import read_share, share_of

# The same examples on every run, and no deadline: the first one compiles.
hypothesis.settings.register_profile(
  'flowdistill', deadline=None, derandomize=True, max_examples=25
)
hypothesis.settings.load_profile('flowdistill')


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption(
    '--slow-share',
    metavar='K/N',
    help='of the slow tests only the K-th of N shares; see tests/shares.py',
  )


def pytest_configure(config: pytest.Config) -> None:
  if text := config.getoption('--slow-share'):
    try:
      read_share(text)
    except ValueError as error:
      raise pytest.UsageError(str(error)) from error


def pytest_collection_modifyitems(
  config: pytest.Config, items: list[pytest.Item]
) -> None:
  """Deselects the slow tests of the other shares."""
  if not (text := config.getoption('--slow-share')):
    return
  share, count = read_share(text)
  others = {
    item
    for item in items
    if item.get_closest_marker('slow') and share_of(item.nodeid, count) != share
  }
  config.hook.pytest_deselected(items=[*others])
  items[:] = [item for item in items if item not in others]


@pytest.fixture
def x64() -> Iterator[None]:
  """Computes in float64, for what has to hold beyond float32."""
  with jax.enable_x64(True):
    yield
