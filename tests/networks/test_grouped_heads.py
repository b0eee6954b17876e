import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.networks.attention import FORMS, attend

RNG = np.random.default_rng(0)


def drawn(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('groups', [1, 2, 3])
def test_heads_that_share_keys_are_those_with_copies_of_them(form, groups):
  q, k, v = drawn(2, 6, 5, 4), drawn(2, groups, 7, 4), drawn(2, groups, 7, 4)
  mask = RNG.uniform(size=(2, 6, 5, 7)) < 0.6
  mask[..., 0] = True
  copies = (jnp.repeat(x, 6 // groups, axis=1) for x in (k, v))
  wanted = attend(q, *copies, mask)
  np.testing.assert_allclose(
    attend(q, k, v, mask, form=form), wanted, atol=1e-6
  )


@pytest.mark.parametrize('form', ['plain', 'blockwise'])
def test_groups_that_do_not_divide_the_heads_raise(form):
  q, k = drawn(2, 6, 5, 4), drawn(2, 4, 7, 4)
  with pytest.raises(
    ValueError, match='^4 heads of keys and values must divid'
  ):
    attend(q, k, k, form=form)
