"""What a step sends, against closed forms and against the compiler."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jobs import hosts

from flowdistill.planning.traffic import Transfer, gathered_bytes, traffic
from flowdistill.training.mesh import abstract_mesh
from flowdistill.training.sharding import Layout

ROOT = pathlib.Path(__file__).parents[2]
QUICKSTART = ROOT / 'configs' / 'quickstart.py'
COMPARED = ROOT / 'tests' / 'training' / 'compiled.py'
ROWS, WIDTH, HIDDEN, LENGTH = 8, 64, 256, 5
SMALL = 100  # too small to be cut


def shaped(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


PARAMS = {
  'a': {
    'up': {'kernel': shaped(WIDTH, HIDDEN)},
    'down': {'kernel': shaped(HIDDEN, WIDTH)},
  },
  'bias': shaped(SMALL),
}
PAIR, BIAS = 4 * 2 * WIDTH * HIDDEN, 4 * SMALL
X = shaped(ROWS, WIDTH)


def call(params, x):
  a = params['a']
  h = jax.nn.gelu(x @ a['up']['kernel']) @ a['down']['kernel']
  return h + params['bias'][:WIDTH]


def step(state, frozen, x):
  def loss(params):
    target = sum(call(w, x) for w in frozen.values())
    return jnp.mean((call(params, x) - target) ** 2)

  return jax.value_and_grad(loss)(state['params'])


def found(data, fsdp, tensor, frozen=(), step=step):
  """(collective, what, axis) -> bytes."""
  sizes = {'data': data, 'fsdp': fsdp, 'tensor': tensor}
  mesh = abstract_mesh(sizes, data * fsdp * tensor)
  layout = Layout(mesh)
  state = {'params': PARAMS, 'moments': PARAMS}
  weights = dict.fromkeys(frozen, PARAMS)
  made = traffic(step, state, weights, X, learns=PARAMS, layout=layout)
  assert all(t.size == sizes[t.axis] for t in made)
  return {(t.collective, t.what, t.axis): t.nbytes for t in made}


def test_one_device_sends_nothing():
  assert found(1, 1, 1) == {}


def test_along_data_gradients_are_summed():
  expected = {('all-reduce', 'gradients', 'data'): PAIR + BIAS}
  assert found(8, 1, 1) == expected
  assert found(8, 1, 1, frozen=['teacher', 'weak']) == expected


@pytest.mark.parametrize('frozen', [(), ('teacher',), ('teacher', 'weak')])
def test_along_fsdp_weights_are_gathered_too(frozen):
  """Once, of every network that is asked; the small ones are not cut."""
  assert found(1, 4, 1, frozen) == {
    ('all-gather', 'parameters', 'fsdp'): (1 + len(frozen)) * PAIR,
    ('reduce-scatter', 'gradients', 'fsdp'): PAIR,
    ('all-reduce', 'gradients', 'fsdp'): BIAS,
  }


def test_along_both_the_pieces_are_summed():
  both = found(2, 4, 1)
  assert both['all-reduce', 'gradients', 'data'] == PAIR // 4 + BIAS
  assert both['reduce-scatter', 'gradients', 'fsdp'] == PAIR


def test_along_tensor_activations_are_summed():
  """Forwards; backwards nothing asks for the gradient of x."""
  assert found(1, 1, 4) == {
    ('all-reduce', 'activations', 'tensor'): 4 * ROWS * WIDTH
  }
  assert found(1, 1, 4, ['teacher']) == {
    ('all-reduce', 'activations', 'tensor'): 2 * 4 * ROWS * WIDTH
  }


def test_what_tensor_cuts_is_a_piece_along_the_others():
  every = found(2, 2, 2)
  assert every['all-gather', 'parameters', 'fsdp'] == PAIR // 2
  assert every['reduce-scatter', 'gradients', 'fsdp'] == PAIR // 2
  assert every['all-reduce', 'gradients', 'data'] == PAIR // 4 + BIAS


def test_what_is_cast_first_is_gathered_in_its_new_dtype():
  def half(state, frozen, x):
    cast = jax.tree.map(lambda w: w.astype(jnp.bfloat16), state['params'])
    return jnp.mean(call(cast, x.astype(jnp.bfloat16)))

  gathered = found(1, 4, 1, step=half)['all-gather', 'parameters', 'fsdp']
  assert gathered == PAIR // 2


def test_what_a_loop_reads_is_gathered_for_it_again():
  def looped(state, frozen, x):
    params = state['params']
    every = jax.lax.scan(lambda c, _: (call(params, c), None), x, length=5)
    return jnp.mean(every[0]) + jnp.mean(call(params, x))

  gathered = found(1, 4, 1, step=looped)['all-gather', 'parameters', 'fsdp']
  assert gathered == 2 * PAIR


def test_what_a_loop_casts_is_gathered_in_its_new_dtype():
  def looped(state, frozen, x):
    def layer(c, _):
      cast = jax.tree.map(lambda w: w.astype(jnp.bfloat16), state['params'])
      return call(cast, c), None

    return jnp.mean(jax.lax.scan(layer, x.astype(jnp.bfloat16), length=5)[0])

  gathered = found(1, 4, 1, step=looped)['all-gather', 'parameters', 'fsdp']
  assert gathered == PAIR // 2


def together(f, params, *rest):
  layout = Layout(abstract_mesh({'data': 1, 'fsdp': 4, 'tensor': 1}, 4))
  return gathered_bytes(f, params, *rest, layout=layout)


def test_what_fsdp_cuts_is_whole_for_a_while():
  """The bias is too small to be cut."""
  assert together(call, PARAMS, X) == PAIR


def test_a_loop_puts_a_slice_together():
  stacked = shaped(LENGTH, WIDTH, WIDTH)

  def run(w, x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  assert together(run, stacked, X) == 4 * WIDTH * WIDTH
  loss = jax.grad(lambda w, x: jnp.sum(run(w, x)))
  assert together(loss, stacked, X) == 4 * WIDTH * WIDTH


def test_what_is_cast_is_gathered_bytes_in_its_new_dtype():
  def half(w, x):
    return x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)

  assert together(half, shaped(WIDTH, WIDTH), X) == 2 * WIDTH * WIDTH


@pytest.mark.parametrize(
  ('collective', 'size', 'expected'),
  [
    ('all-reduce', 4, 2 * 3 / 4),
    ('all-gather', 4, 3 / 4),
    ('reduce-scatter', 8, 7 / 8),
  ],
)
def test_what_a_device_sends_on_a_ring(collective, size, expected):
  """And no more of it leaves a group than a piece of what was done inside."""
  transfer = Transfer(collective, 'gradients', 'data', size, 1000)
  assert transfer.moved == 1000 * expected
  rounds = 2 if collective == 'all-reduce' else 1
  leaving = transfer.between(2)
  inside = Transfer(collective, 'gradients', 'data', 2, 1000).moved
  outside = Transfer(collective, 'gradients', 'data', size // 2, 500).moved
  assert leaving == pytest.approx(outside)
  assert leaving + inside == pytest.approx(transfer.moved)
  assert transfer.between(size) == 0 and rounds * 1000 > transfer.moved


def compared(mesh, *overrides):
  """Collective -> bytes, (the compiler's, ours), on simulated devices."""
  count = math.prod(map(int, mesh.split('x')))
  out = hosts.printed(count, COMPARED, 'flow', QUICKSTART, mesh, *overrides)
  row = json.loads(out)
  return row['compiler']['sent'], row['plan']['sent']


TINY = ('network.width=64', 'network.depth=1', 'train.batch_size=64')


@pytest.mark.slow
@pytest.mark.parametrize('mesh', ['2x1x1', '1x1x2'])
def test_along_one_axis_the_compiler_sends_the_same(mesh):
  """Along `data` gradients; along `tensor` activations, and a few biases."""
  theirs, ours = compared(mesh, *TINY)
  for name in 'all-reduce', 'all-gather':
    error = ours.get(name, 0) - theirs.get(name, 0)
    assert abs(error) <= 0.02 * sum(theirs.values())
  assert theirs.keys() <= {'all-reduce', 'all-gather'}


@pytest.mark.slow
@pytest.mark.parametrize('mesh', ['1x8x1', '2x2x2'])
@pytest.mark.parametrize('rows', [64, 1024])
def test_along_fsdp_it_sends_as_much_within_a_third(mesh, rows):
  """It exchanges embeddings where we think that it gathers weights."""
  wide = 'network.width=512', 'network.depth=2', f'train.batch_size={rows}'
  theirs, ours = compared(mesh, *wide)
  assert sum(ours.values()) == pytest.approx(sum(theirs.values()), rel=1 / 3)
