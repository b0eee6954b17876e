"""A condition is a tree of any names: no objective knows what a label is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.flow.guidance import fixed, uniform
from flowdistill.flow.transport import expand, velocity_of
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Roles, View

N, DROPPED = 16, 4
KEY = jax.random.key(0)
CASES = {
  'rectified_flow': {},
  'ayf_emd': {'guidance': uniform, 'against': 'null'},
  'ayf_lmd': {'guidance': uniform, 'against': 'null'},
  'distillation': {'solver_steps': 1},
  'ect': {'distil': True},
  'scm': {'distil': True},
  'mean_flow': {'guidance': 2.0, 'kappa': 0.3},
  'improved_mean_flow': {'guidance': uniform},
  'shortcut': {'guidance': 2.0, 'share': 0.5},
  'rcgm': {'enhanced_ratio': 0.5},
  'twinflow': {'enhanced_ratio': 0.5},
  'tvm': {'guidance': functools.partial(fixed, scale=2.0)},
  'facm': {'guidance': 2.0},
  'adversarial': {},
  'relativistic': {},
}
EXTRA = {'guidance', 'guidance_low', 'guidance_high'}


def labelled(level):
  return {'label': level.astype(int)}


def textual(level):
  """A text of 5 tokens of 3 numbers, all but the first two masked."""
  text = jnp.zeros((N, 5, 3)).at[:, 1, 2].set(level).at[:, 4].set(9.0)
  mask = jnp.zeros((N, 5), bool).at[:, :2].set(True)
  return {'text': text, 'mask': mask}


def read(cond):
  """The level [b] that a condition of either kind encodes."""
  if 'label' in cond:
    return cond['label'].astype(jnp.float32)
  return jnp.sum(cond['text'] * cond['mask'][..., None], axis=(1, 2))


def loss(name, made):
  """The losses of an objective, and the names of the conditions it passed."""
  names = set()

  def u(x, t, s, cond):
    names.add(frozenset(cond))
    level = read(cond) * cond.get('guidance', 1.0)
    return expand(1 + level + t - s, x) * x

  level = jnp.where(jnp.arange(N) < N - DROPPED, 1 + jnp.arange(N) % 3, 0)
  x0 = jax.random.normal(KEY, (N, 2, 2, 1))
  batch = {'x0': x0, 'cond': made(level), 'null': made(jnp.zeros(N))}
  v = velocity_of(u)
  student = View(lambda params, *inputs: u(*inputs), {'none': jnp.zeros(())})

  def critic(x, cond):
    return read(cond) * x.sum((1, 2, 3))

  nets = Roles(student=student, ema=u, teacher=v, weak=v, discriminator=critic)
  return OBJECTIVES[name](nets, batch, KEY, 100, **CASES[name])[0], names


@pytest.mark.parametrize('name', OBJECTIVES)
def test_a_text_of_the_same_meaning_as_a_label_has_the_same_loss(name):
  by_label, _ = loss(name, labelled)
  by_text, names = loss(name, textual)
  np.testing.assert_array_equal(by_text, by_label)
  assert {each - EXTRA for each in names} == {frozenset({'text', 'mask'})}
