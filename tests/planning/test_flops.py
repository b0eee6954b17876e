"""The counter of operations, on functions whose cost is known."""

import jax
import jax.numpy as jnp
import pytest

from flowdistill.planning.flops import (
  CONVOLUTION,
  PRODUCT,
  UnknownLength,
  flops,
)

A, B = jnp.ones((3, 4)), jnp.ones((4, 5))
OF_PRODUCT = 2 * 3 * 4 * 5


def convolve(image, kernel):
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(
    image, kernel, (1, 1), 'SAME', dimension_numbers=numbers
  )


def test_a_product():
  assert flops(jnp.matmul, A, B) == OF_PRODUCT
  assert (
    flops(jax.vmap(jnp.matmul), A[None].repeat(7, 0), B[None].repeat(7, 0))
    == 7 * OF_PRODUCT
  )


def test_a_convolution():
  image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 4))

  assert flops(convolve, image, kernel) == 2 * (2 * 8 * 8 * 4) * (5 * 5 * 3)


@pytest.mark.parametrize(
  'wrap', [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.jit(f))]
)
def test_a_product_inside_another_function(wrap):
  assert flops(wrap(jnp.matmul), A, B) == OF_PRODUCT


def test_a_scanned_body_counts_as_often_as_it_runs():
  def scanned(a):
    return jax.lax.scan(lambda a, _: (a @ B @ B.T, None), a, length=6)

  assert flops(scanned, A) == 12 * OF_PRODUCT


def test_the_dearest_branch_counts():
  def branch(a):
    return jax.lax.cond(a[0, 0] > 0, lambda: a, lambda: a @ B @ B.T)

  assert flops(branch, A) == 2 * OF_PRODUCT


def test_a_gradient_costs_twice_the_forward_pass():
  gradient = jax.value_and_grad(lambda a, b: jnp.sum(a @ b), argnums=(0, 1))
  assert flops(gradient, A, B) == 3 * OF_PRODUCT


def test_a_cut_tangent_costs_no_backward_pass():
  def loss(b):
    out, tangent = jax.jvp(lambda a: a @ b, (A,), (A,))
    return jnp.sum(out * jax.lax.stop_gradient(tangent))

  assert flops(jax.value_and_grad(loss), B) == 3 * OF_PRODUCT


def test_a_while_loop_is_refused_if_it_has_a_product():
  def loop(a, body):
    return jax.lax.while_loop(lambda a: a[0, 0] < 9, body, a)

  assert flops(lambda a: loop(a, lambda a: a + 1), A) == 0
  with pytest.raises(UnknownLength, match='while loop is unknown'):
    flops(lambda a: loop(a, lambda a: a @ B @ B.T), A)


def test_convolutions_and_products_are_told_apart():
  def both(x, kernel, w):
    return convolve(x, kernel) @ w

  x, kernel, w = (
    jnp.ones((2, 5, 5, 3)),
    jnp.ones((3, 3, 3, 4)),
    jnp.ones((4, 6)),
  )
  alone = flops(convolve, x, kernel)
  assert flops(both, x, kernel, w, of=(CONVOLUTION,)) == alone
  assert flops(both, x, kernel, w, of=(PRODUCT,)) == 2 * 50 * 4 * 6
  assert flops(both, x, kernel, w) == alone + 2 * 50 * 4 * 6
