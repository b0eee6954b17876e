"""What a mesh makes of a checkpoint: its arrays, the next batch and loss.

python tests/jobs/elastic.py WORKDIR data=2 tensor=2
"""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np
from jobs import hosts, tiny

from flowdistill.stages.assembly import (
  abstract_state,
  batches,
  jit_step,
)
from flowdistill.training import checkpoint
from flowdistill.workdir.record import load_spec


def restored(workdir, *axes):
  """{devices, arrays and batch: name -> digest, loss} of the last stage."""
  folder = workdir / 'distil'
  spec = load_spec(folder)
  mesh = {name: int(size) for name, size in (a.split('=') for a in axes)}
  assembly = tiny.assembled(
    {**spec, 'mesh': {**spec['mesh'], **mesh}}, folder, workdir
  )
  abstract = abstract_state(assembly)
  state = checkpoint.restore(folder / 'checkpoints', abstract)
  batch = next(batches(assembly, int(state.step)))
  key = jax.random.key(assembly.blueprint.stage.seed)
  found = {'arrays': digests(state), 'batch': digests(batch)}
  _, metrics = jit_step(assembly)(state, assembly.frozen, batch, key)
  return {
    'devices': jax.device_count(),
    **found,
    'loss': float(metrics['loss']),
  }


def digests(tree):
  """Name -> digest of the bytes; a step donates the state that it gets."""
  return {
    name: hashlib.sha256(np.asarray(array).tobytes()).hexdigest()
    for name, array in checkpoint.by_name(tree).items()
  }


def restored_on(workdir, devices, *axes):
  """The same in a process with so many simulated devices."""
  out = hosts.printed(devices, __file__, workdir, *axes)
  return json.loads(out.splitlines()[-1])


if __name__ == '__main__':
  print(json.dumps(restored(pathlib.Path(sys.argv[1]), *sys.argv[2:])))
