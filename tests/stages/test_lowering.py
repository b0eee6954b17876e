"""The train steps of published networks at full size, by their shapes."""

import pathlib
import time

import jax
import pytest

from flowdistill.planning.cost import size_of
from flowdistill.stages.assembly import Assembly, lay_out
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import load_stages
from flowdistill.stages.timing import jit_step

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs' / 't2i'


@pytest.mark.slow
@pytest.mark.parametrize(
  ('config', 'least'),
  [
    ('flux.py:noise=1024,rank=64', 11_901_408_320),
    ('flux.py:noise=1024', 11_901_408_320),
    ('sd3.py:size=large_3_5,noise=1024', 8_056_627_520),
  ],
)
def test_it_lowers_in_two_minutes(config, least, tmp_path):
  """Nothing is placed: it has more bytes than this machine."""
  start = time.monotonic()
  specs = load_stages(f'{CONFIGS / config}')
  specs['distil']['train']['batch_size'] = 1
  specs['distil']['network']['attention_form'] = 'blockwise'
  blueprint = Blueprints(specs, tmp_path)['distil']
  assert size_of(blueprint)['parameters'] >= least
  assembly = Assembly(
    blueprint, blueprint.folder, lay_out(blueprint), {}, {}, None
  )
  lowered = jit_step(assembly).lower(
    blueprint.state,
    blueprint.frozen_params,
    blueprint.batch(),
    jax.random.key(0),
  )
  assert time.monotonic() - start < 120
  assert 'dot_general' in lowered.as_text()
