"""`:runlocal`: any config at toy size, the same code path within a minute."""

from typing import Any

RUNLOCAL = 'runlocal'
TINY_NETWORKS = {
  'adm': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'dit': {'width': 16, 'depth': 1, 'heads': 2},
  'mlp': {'width': 16, 'depth': 1},
  'ncsnpp': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'unet': {'width': 8, 'res_blocks': 1, 'ch_mult': (1,), 'attention': 0},
}
FROM_FILES = ('folder', 'tfds', 'arrays')
STEPS, BATCH_SIZE, SAMPLES = 2, 16, 32


def make_tiny(stage: dict[str, Any]) -> dict[str, Any]:
  """A resolved stage with a tiny network, two steps, few samples and no files.

  Overrides are applied to the result, so that they can still name a data set.
  """
  dataset = embedded(stage['dataset'])
  if stage['job'] == 'pairs':
    few = {'count': SAMPLES, 'batch_size': BATCH_SIZE, 'shard_size': BATCH_SIZE}
    return {**stage, **few, 'dataset': dataset}
  held_out = stage['evaluation']['dataset']
  evaluators = {
    name: {**spec, 'samples': SAMPLES} if 'samples' in spec else spec
    for name, spec in stage['evaluators'].items()
  }
  train = {**stage['train'], 'steps': STEPS, 'images': None, 'epochs': None}
  return {
    **stage,
    'dataset': dataset,
    'network': tiny_network(stage['network']),
    'train': {**train, 'batch_size': BATCH_SIZE},
    'log': {'every': {'steps': 1}},
    'evaluation': {
      **stage['evaluation'],
      'batch_size': SAMPLES,
      'dataset': held_out and embedded(held_out),
    },
    'evaluators': evaluators,
  }


def keep_tiny(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
  """A stage after an override, with a tiny network if that named a new one."""
  if 'network' not in after:
    return after
  same = before['network']['name'] == after['network']['name']
  return after if same else after | {'network': tiny_network(after['network'])}


def tiny_network(network: dict[str, Any]) -> dict[str, Any]:
  """The same architecture with very few parameters."""
  return {**network, **TINY_NETWORKS[network['name']]}


def embedded(dataset: dict[str, Any]) -> dict[str, Any]:
  """Digits in place of a data set of files, which may not be present."""
  if dataset['name'] not in FROM_FILES:
    return dataset
  return {'name': 'digits', 'size': 8, 'split': dataset['split']}
