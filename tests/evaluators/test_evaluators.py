"""All evaluators have one signature, which is how jobs call them."""

import inspect

import pytest

from flowdistill.evaluators import EVALUATORS


@pytest.mark.parametrize('name', EVALUATORS)
def test_they_have_one_signature(name):
  parameters = inspect.signature(EVALUATORS[name]).parameters.values()
  plain = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
  options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
  assert plain == ['models', 'source', 'features', 'folder']
  assert 'seed' in options
  assert all(p.default is not p.empty for p in options.values())
