"""What a compiler makes of a step, and what the plan says of it.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 PYTHONPATH=.:tests \
    python tests/training/compiled.py STAGE CONFIG MESH [KEY=VALUE ...]

compiles for a mesh such as 2x2x2 of simulated devices, and prints the bytes of
the peak on a device, and those of the arrays there that each collective is
about. The CPU's compiler knows no reduce-scatter: it is an all-reduce there.

With TOPOLOGY=v5e:2x4 in the environment it compiles for those TPUs, which need
not be there (but `pip install -e '.[tpu]'`). What loops send is then counted
once, for a TPU's program does not say how often they run.
"""

import json
import math
import os
import pathlib
import re
import sys
from collections import Counter

import jax
from jax.experimental import topologies
from jobs import tiny

from flowdistill.build.models import with_rows
from flowdistill.planning.forecast import bytes_per_device, transfers
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training.mesh import make_mesh
from flowdistill.training.sharding import Layout

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


def devices():
  """Those of a topology that is named, or those that are here."""
  topology = os.environ.get('TOPOLOGY')
  if topology is None:
    return jax.devices()
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  return topologies.get_topology_desc(topology, 'tpu').devices


def compiled(blueprint, layout):
  """The step, on its mesh."""
  batch, key = blueprint.batch(), jax.eval_shape(lambda: jax.random.key(0))
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.rows),
    batch,
  )
  out = layout.shardings(blueprint.state), layout.replicated
  step = with_rows(blueprint.step(), layout.constrain)
  step = jax.jit(step, donate_argnums=0, out_shardings=out)
  params = blueprint.frozen_params
  frozen = {role: layout.abstract(w) for role, w in params.items()}
  lowered = step.lower(layout.abstract(blueprint.state), frozen, batch, key)
  return lowered.compile()


def peak(program):
  """Bytes on a device."""
  found = program.memory_analysis()
  return (
    found.argument_size_in_bytes
    + found.output_size_in_bytes
    - found.alias_size_in_bytes
    + found.temp_size_in_bytes
  )


def main(stage, config, mesh, *overrides):
  sizes = zip(('data', 'fsdp', 'tensor'), mesh.split('x'), strict=True)
  cut = [f'mesh.{axis}={size}' for axis, size in sizes]
  specs = tiny.stages(config, *overrides, *cut)
  blueprint = Blueprints(specs, pathlib.Path())[stage]
  parts = math.prod(map(int, mesh.split('x')))
  axes, rules = blueprint.stage.mesh.sizes, blueprint.stage.mesh.rules
  layout = Layout(make_mesh(axes, devices()[:parts]), rules)
  program = compiled(blueprint, layout)
  ours = Counter()
  for t in transfers(blueprint, layout):
    ours[t.collective] += t.nbytes
  found = {
    'compiler': (peak(program), placed(program.as_text())),
    'plan': (bytes_per_device(blueprint, layout)['peak'], ours),
  }
  print(
    json.dumps(
      {name: {'peak': p, 'sent': sent} for name, (p, sent) in found.items()}
    )
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
