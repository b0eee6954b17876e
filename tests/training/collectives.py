"""What the compiler makes a step send, on simulated devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=.:tests \
    python tests/training/collectives.py STAGE CONFIG MESH [KEY=VALUE ...]

Prints, for a mesh such as 2x2x2, the bytes of the arrays on a device that each
collective is about: as the compiler has placed them, and as `traffic` says. The
CPU's compiler knows no reduce-scatter: it is an all-reduce there.
"""

import json
import math
import pathlib
import re
import sys
from collections import Counter

import jax
from jobs import tiny

from flowdistill.jobs.assemble import lay_out
from flowdistill.jobs.forecast import draft, transfers

BYTES = {'pred': 1, 'bf16': 2, 'f32': 4, 's32': 4, 'u32': 4}
NAMES = 'all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute'
LINE = re.compile(rf'= (.*?) ({NAMES})(?:-start)?\(')
ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')


def placed(text):
  """Collective -> bytes, of the text of a compiled program."""
  found = Counter()
  for line in LINE.finditer(text):
    found[line[2]] += sum(
      BYTES[dtype] * math.prod(map(int, filter(None, shape.split(','))))
      for dtype, shape in ARRAY.findall(line[1])
    )
  return found


def main(stage, config, mesh, *overrides):
  sizes = zip(('data', 'fsdp', 'tensor'), mesh.split('x'), strict=True)
  cut = [f'mesh.{axis}={size}' for axis, size in sizes]
  made = draft(stage, tiny.stages(config, *overrides, *cut), pathlib.Path())
  layout = lay_out(made.stage)
  batch, key = made.inputs()
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.rows),
    batch,
  )
  out = layout.shardings(made.state), layout.everywhere
  step = jax.jit(made.step, donate_argnums=0, out_shardings=out)
  frozen = {role: layout.placed(w) for role, w in made.frozen.items()}
  lowered = step.lower(layout.placed(made.state), frozen, batch, key)
  ours = Counter()
  for t in transfers(made, layout):
    ours[t.collective] += t.nbytes
  compiled = placed(lowered.compile().as_text())
  print(json.dumps({'mesh': mesh, 'compiler': compiled, 'ours': ours}))


if __name__ == '__main__':
  main(*sys.argv[1:])
