"""What an objective costs, in forward passes of the network.

One for each forward pass, two for its gradient in the parameters, and one for
a tangent. The products of two activations in the attention have two terms in a
tangent, and embeddings that are asked twice count once: hence the 2 %.
"""

import functools
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from flowdistill.build.tables import bind_stage
from flowdistill.flow.guidance import uniform
from flowdistill.flow.spec import DataSpec
from flowdistill.flow.tangent import difference
from flowdistill.networks.dit import DiT
from flowdistill.objectives import OBJECTIVES
from flowdistill.objectives.fakes import Fakes
from flowdistill.objectives.roles import Roles, View
from flowdistill.planning.flops import flops
from flowdistill.stages.kinds import load_stages

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / 'docs' / 'objectives.md'
COMPARISON = ROOT / 'configs' / 'fewstep_digits.py'
METHODS = runpy.run_path(str(COMPARISON))['METHODS']
ROW = re.compile(r'^\| `(\w+)` \| (.*?) ?\| ([\d.]+) \|$', re.MULTILINE)
GUIDED, DISTILLED = {'guidance': uniform}, {'distil': True}
BY_DIFFERENCE = {'tangent': difference}
AGAINST_WEAK = {**GUIDED, 'against': 'weak'}
CASES = {
  ('rectified_flow', ''): {},
  ('distillation', 'pairs, `regulariser=0`'): {'regulariser': 0.0},
  ('distillation', 'pairs'): {},
  ('distillation', '`solver_steps=4`'): {'solver_steps': 4},
  ('ayf_emd', ''): {},
  ('ayf_emd', 'autoguidance, or classifier-free'): AGAINST_WEAK,
  ('ayf_emd', '`tangent=difference`'): BY_DIFFERENCE,
  ('ayf_lmd', ''): {},
  ('ayf_lmd', 'autoguidance, or classifier-free'): AGAINST_WEAK,
  ('ayf_lmd', '`tangent=difference`'): BY_DIFFERENCE,
  ('mean_flow', ''): {},
  ('mean_flow', 'guided, `kappa=0`'): {'guidance': 2.0},
  ('mean_flow', 'distilled'): DISTILLED,
  ('mean_flow', '`tangent=difference`'): BY_DIFFERENCE,
  ('improved_mean_flow', ''): {},
  ('improved_mean_flow', 'guided'): GUIDED,
  ('improved_mean_flow', '`tangent=difference`'): BY_DIFFERENCE,
  ('shortcut', 'a share of 1/4'): {},
  ('ect', ''): {},
  ('ect', 'distilled'): DISTILLED,
  ('scm', ''): {},
  ('scm', 'distilled'): DISTILLED,
  ('scm', '`tangent=difference`'): BY_DIFFERENCE,
  ('rcgm', 'N = 0'): {'order': 0},
  ('rcgm', 'N = 1'): {'order': 1},
  ('rcgm', 'N = 2'): {},
  ('rcgm', 'N = 2, enhanced'): {'enhanced_ratio': 0.5},
  ('twinflow', 'order 2, with matching'): {},
  ('twinflow', "the paper's recipe, enhanced"): {'enhanced_ratio': 0.5},
  ('tvm', ''): {},
  ('tvm', '`tangent=difference`'): BY_DIFFERENCE,
  ('facm', ''): {},
  ('facm', 'distilled'): DISTILLED,
  ('facm', '`tangent=difference`'): BY_DIFFERENCE,
  ('adversarial', ''): {},
  ('adversarial', 'autoguidance, or classifier-free'): {
    'base': functools.partial(OBJECTIVES['ayf_emd'], **AGAINST_WEAK)
  },
  ('adversarial', 'fakes of 4 jumps'): {'fakes': Fakes(nfe=4)},
  ('relativistic', '`r1=0`, `r2=0`'): {'r1': 0.0, 'r2': 0.0},
  ('relativistic', ''): {},
}
TABLE = {row[:2]: float(row[2]) for row in ROW.findall(DOCS.read_text())}


def passes(objective, options, free=None):
  """Of value and gradient of an objective, with a DiT in every role.

  The `student`, or the `discriminator`, may be free of matrix products.
  """
  graph, params = nnx.split(
    nnx.eval_shape(
      lambda: DiT(DataSpec.labelled((8, 8, 1), 10), rngs=nnx.Rngs(0))
    )
  )
  x0, t = jnp.ones((16, 8, 8, 1)), jnp.ones(16)
  label = {'label': jnp.zeros(16, int)}
  batch = {'x0': x0, 'x1': x0, 'cond': label, 'null': label}

  def forward(params, x, t, s, cond):
    return nnx.merge(graph, params)(x, t, s, cond)

  def judged(params, x, cond):
    t = jnp.ones(len(x))
    return forward(params, x, t, t, cond).mean((1, 2, 3))

  calls = {'student': forward, 'discriminator': judged}

  def factor(params):
    return jax.tree.leaves(params)[0].mean()

  cheap = {
    'student': lambda params, x, t, s, cond: x * factor(params),
    'discriminator': lambda params, x, cond: factor(params) * x.mean((1, 2, 3)),
  }
  calls |= {free: cheap[free]} if free else {}
  critic = objective is OBJECTIVES['relativistic']

  def loss(params, frozen):
    mine = 'discriminator' if critic else 'student'
    others = {name: View(call, frozen) for name, call in calls.items()}
    nets = Roles(
      {**others, mine: View(calls[mine], params)},
      ema=lambda x, t, s, cond: forward(frozen, x, t, s, cond),
      teacher=lambda x, t, cond: forward(frozen, x, t, t, cond),
      weak=lambda x, t, cond: forward(frozen, x, t, t, cond),
    )
    return jnp.mean(objective(nets, batch, jax.random.key(0), 0, **options)[0])

  once = flops(forward, params, x0, t, t, label)
  return flops(jax.value_and_grad(loss), params, params) / once


@pytest.mark.parametrize('case', CASES, ids=lambda case: ' '.join(case))
def test_a_step_costs_what_the_docs_say(case):
  found = passes(OBJECTIVES[case[0]], CASES[case])
  assert found == pytest.approx(TABLE[case], rel=0.02)


def test_every_row_of_the_docs_is_counted_and_no_objective_is_missing():
  assert set(TABLE) == set(CASES)
  assert {name for name, _ in TABLE} == set(OBJECTIVES)


@pytest.mark.parametrize(
  ('free', 'adversarial', 'relativistic'),
  [('discriminator', 6 + 3, 1), ('student', 2 + 3, 6 + 2 * 3)],
)
def test_an_adversarial_step_is_the_sum_that_the_docs_say(
  free, adversarial, relativistic
):
  """10 passes of the student with its two teachers, 15 of the discriminator."""
  case = ('adversarial', 'autoguidance, or classifier-free')
  found = passes(OBJECTIVES['adversarial'], CASES[case], free)
  assert found == pytest.approx(adversarial, rel=0.02)
  found = passes(OBJECTIVES['relativistic'], {}, free)
  assert found == pytest.approx(relativistic, rel=0.02)


def test_guidance_without_a_condition_costs_what_autoguidance_does():
  emd = OBJECTIVES['ayf_emd']
  against_null = passes(emd, {**GUIDED, 'against': 'null'})
  assert against_null == passes(emd, AGAINST_WEAK)


@pytest.mark.parametrize('method', METHODS)
def test_the_comparison_counts_every_method_at_its_cost(method):
  spec = load_stages(f'{COMPARISON}:{method}')[method]
  found = passes(bind_stage(spec).objective, {})
  assert found == pytest.approx(METHODS[method][0], rel=0.02)
