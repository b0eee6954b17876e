"""`:runlocal`: any config at toy size, the same code path within a minute."""

from typing import Any

RUNLOCAL = 'runlocal'
TINY_NETWORKS = {
  'dit': {'width': 16, 'depth': 1, 'heads': 2},
  'mlp': {'width': 16, 'depth': 1},
  'ncsnpp': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
}
STEPS, BATCH_SIZE, SAMPLES = 2, 16, 32


def make_tiny(stage: dict[str, Any]) -> dict[str, Any]:
  """A resolved stage with a tiny network, two steps and few samples."""
  if stage['job'] == 'pairs':
    few = {'count': SAMPLES, 'batch_size': BATCH_SIZE, 'shard_size': BATCH_SIZE}
    return {**stage, **few}
  network = stage['network']
  evaluators = {
    name: {**spec, 'samples': SAMPLES} if 'samples' in spec else spec
    for name, spec in stage['evaluators'].items()
  }
  train = {**stage['train'], 'steps': STEPS, 'images': None, 'epochs': None}
  return {
    **stage,
    'network': {**network, **TINY_NETWORKS[network['name']]},
    'train': {**train, 'batch_size': BATCH_SIZE},
    'log': {'every': {'steps': 1}},
    'evaluation': {**stage['evaluation'], 'batch_size': SAMPLES},
    'evaluators': evaluators,
  }
