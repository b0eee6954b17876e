"""configs/t2i/flux.py and sd3.py have the published networks.

And their LoRA takes effect.
"""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import tiny_flux, tiny_sd3
from networks.test_sd3 import PUBLISHED

from flowdistill.build.lora import Adaptation
from flowdistill.build.models import shape_model
from flowdistill.build.tables import bind_stage
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Lora
from flowdistill.networks.lora import named
from flowdistill.stages.kinds import load_stages

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 't2i'
FLUX, SD3 = CONFIGS / 'flux.py', CONFIGS / 'sd3.py'
TWO = {'target_time': 'scaled_gap', 'scalars': ('guidance',)}


@pytest.mark.parametrize(
  ('config', 'arg', 'network'),
  [
    (FLUX, '', {'guidance_embeds': True}),
    (FLUX, 'size=schnell,teacher=a', {'guidance_embeds': False}),
    (FLUX, 'runlocal', {'guidance_embeds': True}),
    (SD3, '', {'num_layers': 24}),
    (SD3, 'size=medium,teacher=a', {'num_layers': 24}),
    (SD3, 'runlocal', {'num_layers': 2}),
  ],
)
def test_their_stages_are_accepted(config, arg, network):
  found = load_stages(f'{config}:{arg}')
  given = 'teacher' in arg
  assert list(found) == (['distil'] if given else ['flow', 'distil'])
  for name, spec in found.items():
    bind_stage(spec, f'stages.{name}')
  distil = found['distil']
  teacher = distil['frozen']['teacher']['source']
  assert teacher == ('a' if given else 'stage:flow')
  wanted = {'target_time': 'scaled_gap', **network}
  assert {name: distil['network'][name] for name in wanted} == wanted
  assert distil.get('lora') is None


def test_sizes_of_sd3_are_those_that_are_counted():
  sizes = runpy.run_path(str(SD3))['SIZES']
  assert sizes == {name: options for name, (options, *_) in PUBLISHED.items()}


def test_with_a_rank_the_base_is_the_teacher():
  spec = load_stages(f'{FLUX}:teacher=a,rank=8')['distil']
  assert spec['lora']['rank'] == 8
  teacher = spec['frozen']['teacher']
  start = spec['init_from']
  assert start['source'] == teacher['source'] == 'a'
  assert start['dtype'] == teacher['dtype'] == 'bfloat16'


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('rank=many', 'rank=many must be a number'),
    ('rank', "'rank'"),
    ('techer=a', "'techer'.*did you mean 'teacher='"),
  ],
)
@pytest.mark.parametrize('config', [FLUX, SD3])
def test_a_word_that_is_wrong_is_refused(config, arg, message):
  with pytest.raises(ConfigError, match=f'config argument.*{message}'):
    load_stages(f'{config}:{arg}')


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
