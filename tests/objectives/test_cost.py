"""What an objective costs, in forward passes of the network."""

import jax
import jax.numpy as jnp
import pytest
from cost import flops
from flax import nnx

from flowdistill.networks import DiT
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Roles

# One for each forward pass, two for its gradient in the parameters, and one
# for a tangent. The products of two activations in the attention have two
# terms in a tangent, which is what lies behind the point.
MOST = {
  'rectified_flow': (3.05, {}),
  'ayf_emd': (5.05, {}),
  'ayf_lmd': (5.05, {}),
  'ayf_emd, autoguided': (6.05, {'guidance': 2.0}),
}


@pytest.mark.parametrize('case', MOST)
def test_value_and_gradient(case):
  name, (most, options) = case.partition(',')[0], MOST[case]
  graph, params = nnx.split(
    nnx.eval_shape(lambda: DiT((8, 8, 1), 10, rngs=nnx.Rngs(0)))
  )
  x0, t = jnp.ones((16, 8, 8, 1)), jnp.ones(16)
  batch = {'x0': x0, 'cond': {'label': jnp.zeros(16, int)}}

  def forward(params, x, t, s, cond):
    return nnx.merge(graph, params)(x, t, s, cond)

  def loss(params, frozen):
    nets = Roles(
      student=lambda x, t, s, cond: forward(params, x, t, s, cond),
      teacher=lambda x, t, cond: forward(frozen, x, t, t, cond),
      weak=lambda x, t, cond: forward(frozen, x, t, t, cond),
    )
    key = jax.random.key(0)
    return jnp.mean(OBJECTIVES[name](nets, batch, key, 0, **options)[0])

  once = flops(forward, params, x0, t, t, batch['cond'])
  passes = flops(jax.value_and_grad(loss), params, params) / once
  assert most - 0.1 < passes <= most
