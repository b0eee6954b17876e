"""Commands that are typed, for the tests of what is mistyped."""

import textwrap

import pytest
from mistyped import images, points, stages, type_in, write_config

from flowdistill.config.overrides import parse_override
from flowdistill.main import split_arguments
from flowdistill.stages.kinds import load_stages

__all__ = ['images', 'points', 'stages', 'type_in', 'write_config']


@pytest.fixture
def load(tmp_path):
  """Stages of a config with what is typed after it, as `main` reads them."""

  def read(raw, *typed, arg='', wrap='ConfigDict({}, sort_keys=False)'):
    made = wrap.format(repr(raw))
    text = f"""
    from ml_collections import ConfigDict

    def get_config(arg=''):
      return {made}
    """
    (tmp_path / 'experiment.py').write_text(textwrap.dedent(text))
    _, rest, _ = split_arguments(typed)
    overrides = [parse_override(name, value) for name, value in rest]
    return load_stages(f'{tmp_path / "experiment.py"}{arg}', overrides)

  return read
