"""The networks that are timed beside PyTorch have no option that it lacks."""

import dataclasses
import inspect

import pytest

from flowdistill.against_torch import supported
from flowdistill.networks import NETWORKS
from flowdistill.networks.options import NetworkOptions

SHARED = {field.name for field in dataclasses.fields(NetworkOptions)}


@pytest.mark.parametrize('name', supported.RESTATED)
def test_every_option_is_restated_or_refused_or_without_effect(name):
  own = {
    p.name
    for p in inspect.signature(NETWORKS[name].__init__).parameters.values()
    if p.kind is p.KEYWORD_ONLY
  }
  known = {*supported.PLAIN, *supported.WITHOUT_EFFECT, *supported.SHARED}
  assert own - {'options', 'rngs'} | SHARED <= known | {
    *supported.RESTATED[name]
  }
