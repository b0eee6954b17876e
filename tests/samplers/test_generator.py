"""What a model with parameters adds to drawing: its conditions."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.flow.transport import expand
from flowdistill.samplers.draw import Draw
from flowdistill.samplers.generator import Generator

N = 5
LABELS = {'label': np.arange(N)}


def to_null(cond):
  return {**cond, 'label': np.full_like(cond['label'], 10)} if cond else {}


def apply(params, x, t, s, cond):
  """Moves by params times the sum of all conditions."""
  total = sum(jnp.float32(c) for c in cond.values())
  return jnp.zeros_like(x) - params * expand(total, x)


def model(*scalars):
  return Generator(Draw(apply, (2,), 4), 2.0, to_null, scalars)


def moved(model, nfe=1, **how):
  """How far the examples went, over `params`, and what that cost."""
  found = model(N, sampler='euler', nfe=nfe, **how)
  start = Draw(apply, (2,), 4)(0.0, N, nfe=1, cond=LABELS)
  return ((found.x - start.x).mean(1) / 2).round(4), found.nfe[0]


def test_it_leads_away_from_no_class():
  move, nfe = moved(model(), nfe=2, guidance=1.5, cond=LABELS)
  np.testing.assert_allclose(move, 1.5 * np.arange(N) - 0.5 * 10, atol=1e-4)
  assert nfe == 2


def test_a_network_that_takes_the_scale_is_told():
  move, nfe = moved(model('guidance'), guidance=1.5, cond=LABELS)
  np.testing.assert_allclose(move, np.arange(N) + 1.5, atol=1e-4)
  assert nfe == 1
  move, _ = moved(model('guidance'), cond=LABELS)
  np.testing.assert_allclose(move, np.arange(N) + 1, atol=1e-4)


def test_a_network_that_takes_the_interval_is_told_that_too():
  told = model('guidance', 'guidance_low', 'guidance_high')
  middle = {'scale': 3.0, 'low': 0.25, 'high': 0.5}
  move, nfe = moved(told, guidance=middle, cond=LABELS)
  np.testing.assert_allclose(move, np.arange(N) + 3.75, atol=1e-4)
  assert nfe == 1
  move, _ = moved(told, cond=LABELS)
  np.testing.assert_allclose(move, np.arange(N) + 2, atol=1e-4)
  with pytest.raises(
    ValueError, match=r"^guidance = .* told \['guidance'\] al"
  ):
    model('guidance')(N, guidance=middle, cond=LABELS)


def test_what_the_caller_says_is_kept():
  own = {**LABELS, 'guidance': np.full(N, 7.0)}
  move, _ = moved(model('guidance'), cond=own)
  np.testing.assert_allclose(move, np.arange(N) + 7, atol=1e-4)


def test_other_scalars_are_the_callers_business():
  move, _ = moved(model('speed'), cond={**LABELS, 'speed': np.ones(N)})
  np.testing.assert_allclose(move, np.arange(N) + 1, atol=1e-4)


def test_there_and_back_and_asking():
  told = model('guidance')
  how = {'sampler': 'euler', 'nfe': 2, 'guidance': 1.5, 'cond': LABELS}
  found = told(N, **how)
  start = Draw(apply, (2,), 4)(0.0, N, nfe=1, cond=LABELS)
  back = told.encode(found.x, **how)
  np.testing.assert_allclose(back.x, start.x, atol=1e-5)
  u = told.ask(found.x, np.ones(N), np.zeros(N), LABELS)
  np.testing.assert_allclose(u[:, 0], -2.0 * np.arange(N))


def test_without_classes_there_is_nothing_to_lead_away_from():
  with pytest.raises(ValueError, match='^guidance leads away from `null`'):
    model()(N, guidance=2.0)
