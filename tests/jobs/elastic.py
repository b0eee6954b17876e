"""What a mesh makes of a checkpoint: its arrays, the next batch and loss.

python tests/jobs/elastic.py FOLDER data=2 tensor=2
"""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np
from jobs import critic, hosts, tiny

from flowdistill.stages.assembly import (
  abstract_state,
  batches,
  jit_step,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.training import checkpoint
from flowdistill.workdir.record import load_spec


def blueprint(folder):
  """Of the last stage of a run, or of a stage's own folder."""
  return Blueprints({}, folder.parent).at(str(folder))


def state(folder):
  """The last state of a stage, on one device."""
  return checkpoint.restore(folder / 'checkpoints', blueprint(folder).state)


def arrays(folder):
  """Its arrays by name."""
  return checkpoint.by_name(state(folder))


def restored(folder, *axes):
  """{devices, arrays and batch: name -> digest, loss} of a stage."""
  mesh = {name: int(size) for name, size in (a.split('=') for a in axes)}
  spec = load_spec(folder)
  assembly = tiny.assembled(
    {**spec, 'mesh': {**spec['mesh'], **mesh}}, folder, folder.parent
  )
  state = checkpoint.restore(folder / 'checkpoints', abstract_state(assembly))
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


def restored_on(folder, devices, *axes):
  """The same in a process with so many simulated devices."""
  out = hosts.printed(devices, __file__, folder, *axes)
  return json.loads(out.splitlines()[-1])


if __name__ == '__main__':
  critic.register()
  print(json.dumps(restored(pathlib.Path(sys.argv[1]), *sys.argv[2:])))
