"""What an objective costs, in forward passes of the network.

One for each forward pass, two for its gradient in the parameters, and one for
a tangent. The products of two activations in the attention have two terms in a
tangent, and embeddings that are asked twice count once: hence the 2 %.
"""

import jax
import jax.numpy as jnp
import pytest
from cost import flops
from flax import nnx

from flowdistill.flow.guidance import uniform
from flowdistill.networks import DiT
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.roles import Roles

GUIDED = {'guidance': uniform}
COSTS = {
  'rectified_flow': (3, {}),
  'ayf_emd': (5, {}),
  'ayf_emd, autoguidance': (6, GUIDED),
  'ayf_emd, classifier-free guidance': (6, {**GUIDED, 'against': 'null'}),
  'ayf_lmd': (5, {}),
  'ayf_lmd, autoguidance': (6, GUIDED),
  'ect': (4, {}),
  'ect, distilled': (5, {'distil': True}),
  'scm': (4, {}),
  'scm, distilled': (5, {'distil': True}),
}


@pytest.mark.parametrize('case', COSTS)
def test_value_and_gradient(case):
  expected, options = COSTS[case]
  graph, params = nnx.split(
    nnx.eval_shape(lambda: DiT((8, 8, 1), 10, rngs=nnx.Rngs(0)))
  )
  x0, t = jnp.ones((16, 8, 8, 1)), jnp.ones(16)
  label = {'label': jnp.zeros(16, int)}
  batch = {'x0': x0, 'x1': x0, 'cond': label, 'null': label}

  def forward(params, x, t, s, cond):
    return nnx.merge(graph, params)(x, t, s, cond)

  def loss(params, frozen):
    nets = Roles(
      student=lambda x, t, s, cond: forward(params, x, t, s, cond),
      ema=lambda x, t, s, cond: forward(frozen, x, t, s, cond),
      teacher=lambda x, t, cond: forward(frozen, x, t, t, cond),
      weak=lambda x, t, cond: forward(frozen, x, t, t, cond),
    )
    objective = OBJECTIVES[case.partition(',')[0]]
    return jnp.mean(objective(nets, batch, jax.random.key(0), 0, **options)[0])

  once = flops(forward, params, x0, t, t, label)
  passes = flops(jax.value_and_grad(loss), params, params) / once
  assert passes == pytest.approx(expected, rel=0.02)
