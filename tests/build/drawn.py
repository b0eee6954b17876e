"""Samples of a mesh against those of one device.

  python drawn.py 1x1x1 2x1x1 2x2x2 ...
  python drawn.py --distributed=ADDRESS,COUNT,INDEX 4x1x1 ...

prints a line for every mesh (data x fsdp x tensor): the largest difference of
any image from the one that a single device draws, and how many arrays of the
weights are really sharded. The first line has the sizes of the images.
"""

import json
import math
import sys

import jax
import numpy as np
from flax import nnx

from flowdistill.build.models import Model
from flowdistill.build.sampling import Generator
from flowdistill.flow.spec import DataSpec
from flowdistill.networks import DiT
from flowdistill.training.mesh import AXES, make_mesh
from flowdistill.training.sharding import Layout

SPEC = DataSpec.labelled((8, 8, 1), 10)
N = 11
COND = {'label': np.arange(N) % 10}
WAYS = (
  {'sampler': 'gamma', 'nfe': 4, 'guidance': 2.0},
  {'sampler': 'rk45', 'nfe': None, 'rtol': 1e-2, 'atol': 1e-2},
)


def model():
  """A DiT in which no array is zero."""
  net = DiT(SPEC, width=64, depth=1, rngs=nnx.Rngs(0))
  graph, params = nnx.split(net)
  keys = iter(jax.random.split(jax.random.key(1), 200))
  params = jax.tree.map(
    lambda x: np.asarray(x + 0.05 * jax.random.normal(next(keys), x.shape)),
    params,
  )
  return Model(graph, params), params


def images(generator):
  """Everything that a generator answers, as numpy arrays."""
  drawn = [generator(N, cond=COND, seed=5, first=2, **how).x for how in WAYS]
  t = np.linspace(0.1, 1, N)
  noise = generator.encode(drawn[0], sampler='euler', nfe=2, cond=COND).x
  return [*drawn, noise, generator.ask(drawn[0], t, t / 2, COND)]


def main(*meshes):
  network, params = model()
  one = images(Generator(network.apply, params, SPEC, batch_size=3))
  print(json.dumps({'sizes': [float(np.abs(x).max()) for x in one]}))
  for mesh in meshes:
    sizes = dict(zip(AXES, map(int, mesh.split('x')), strict=True))
    devices = jax.devices()[: math.prod(sizes.values())]
    layout = Layout(make_mesh(sizes, devices))
    sharded = jax.tree.map(
      lambda x, to: jax.make_array_from_callback(x.shape, to, x.__getitem__),
      params,
      layout.shardings(params),
    )
    many = images(
      Generator(network.apply, sharded, SPEC, batch_size=3, layout=layout)
    )
    apart = [float(np.abs(a - b).max()) for a, b in zip(one, many, strict=True)]
    leaves = jax.tree.leaves(sharded)
    cut = sum(not x.sharding.is_fully_replicated for x in leaves)
    print(json.dumps({'mesh': mesh, 'apart': max(apart), 'cut': cut}))


if __name__ == '__main__':
  first, *rest = sys.argv[1:]
  if first.startswith('--distributed='):
    address, count, index = first.partition('=')[2].split(',')
    jax.distributed.initialize(address, int(count), int(index))
    main(*rest)
  else:
    main(first, *rest)
