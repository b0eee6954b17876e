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

from flowdistill import build
from flowdistill.jobs.assemble import lay_out
from flowdistill.jobs.forecast import draft, transfers

BYTES = {'pred': 1, 'bf16': 2, 'f32': 4, 's32': 4, 'u32': 4}
NAMES = 'all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute'
SENDS = re.compile(rf'= (.*?) ({NAMES})(?:-start)?\(')
ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
BEGINS = re.compile(r'(ENTRY )?%([\w.-]+) \(.*\{$')
CALLS = re.compile(r'(?:body|calls|to_apply)=%([\w.-]+)')
TIMES = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def placed(text):
  """Collective -> bytes of a program; a loop's body as often as it runs."""
  own, inner, name, entry = {}, {}, '', ''
  for line in text.splitlines():
    if begins := BEGINS.match(line):
      name = begins[2]
      entry = name if begins[1] else entry
      own[name], inner[name] = Counter(), []
    if sends := SENDS.search(line):
      own[name][sends[2]] += sum(map(nbytes, ARRAY.findall(sends[1])))
    times = TIMES.search(line)
    for body in CALLS.findall(line):
      inner[name].append((body, int(times[1]) if times else 1))

  def total(name):
    found = own[name].copy()
    for body, times in inner[name]:
      found.update({k: times * size for k, size in total(body).items()})
    return found

  return total(entry)


def nbytes(array):
  dtype, shape = array
  return BYTES[dtype] * math.prod(map(int, filter(None, shape.split(','))))


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
  held = build.held(made.step, layout.hold)
  step = jax.jit(held, donate_argnums=0, out_shardings=out)
  frozen = {role: layout.placed(w) for role, w in made.frozen.items()}
  lowered = step.lower(layout.placed(made.state), frozen, batch, key)
  ours = Counter()
  for t in transfers(made, layout):
    ours[t.collective] += t.nbytes
  compiled = placed(lowered.compile().as_text())
  print(json.dumps({'mesh': mesh, 'compiler': compiled, 'ours': ours}))


if __name__ == '__main__':
  main(*sys.argv[1:])
