"""configs/t2i/flux.py has the published networks, and its LoRA takes effect.

So has that of sd3.py, whose networks are in test_sd3.py.
"""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import tiny_flux, tiny_sd3

from flowdistill.build.lora import Adaptation
from flowdistill.build.models import shape_model
from flowdistill.build.tables import bind_stage
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Lora
from flowdistill.networks.lora import named
from flowdistill.stages.kinds import load_stages

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 't2i'
CONFIG = CONFIGS / 'flux.py'
TWO = {'target_time': 'scaled_gap', 'scalars': ('guidance',)}


@pytest.mark.parametrize('arg', ['', 'size=schnell,teacher=a', 'runlocal'])
def test_its_stages_are_accepted(arg):
  found = load_stages(f'{CONFIG}:{arg}')
  stages = ['distil'] if 'teacher' in arg else ['flow', 'distil']
  assert list(found) == stages
  for name, spec in found.items():
    bind_stage(spec, f'stages.{name}')
  network = found['distil']['network']
  assert network['guidance_embeds'] == ('schnell' not in arg)
  assert 'lora' not in found['distil'] or found['distil']['lora'] is None


def test_with_a_rank_the_base_is_the_teacher():
  spec = load_stages(f'{CONFIG}:teacher=a,rank=8')['distil']
  assert spec['lora']['rank'] == 8
  teacher = spec['frozen']['teacher']
  start = spec['init_from']
  assert start['source'] == teacher['source'] == 'a'
  assert start['dtype'] == teacher['dtype'] == 'bfloat16'


@pytest.mark.parametrize('arg', ['rank=many', 'rank', 'renk=3'])
def test_a_word_that_is_wrong_is_refused(arg):
  with pytest.raises(ConfigError, match='config argument'):
    load_stages(f'{CONFIG}:{arg}')


def flux():
  return tiny_flux.make(
    guidance_embeds=True, num_layers=2, num_single_layers=2, **TWO
  )


def sd3():
  return tiny_sd3.make(
    tiny_sd3.options_of('dual_last'),
    times={'target_time': 'scaled_gap'},
    scalars=('guidance',),
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'make', 'inputs'),
  [('flux', flux, tiny_flux.inputs), ('sd3', sd3, tiny_sd3.inputs)],
)
def test_every_factor_has_an_effect(name, make, inputs):
  told = runpy.run_path(str(CONFIGS / f'{name}.py'))
  lora = Lora(layers=told['LAYERS'], full=told['LEARNT'], rank=2)
  found = Adaptation(
    shape_model(make), make, lora, lambda: jax.random.key(1), 'lora'
  )
  model, rng = found.model(), np.random.default_rng(0)

  def drawn(x):
    return jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32)

  own = jax.tree.map(drawn, model.params)
  base = jax.tree.map(drawn, found.plain.params)
  *at, cond = inputs()
  cond = {**cond, 'guidance': jnp.array([1.5, 2.5])}

  @jax.jit
  @jax.grad
  def gradient(own):
    return jnp.sum(model.apply(model.whole(own, base), *at, cond) ** 2)

  idle = {
    named(path)
    for path, leaf in nnx.to_flat_state(gradient(own))
    if not jnp.any(leaf[...])
  }
  # Of the last block's text nothing is asked; SD3 has the layer all the same.
  query = 'blocks_2.each.text.project.query'
  factors = {f'{query}.lora_a', f'{query}.lora_b'}
  assert idle == (factors if name == 'sd3' else set())
