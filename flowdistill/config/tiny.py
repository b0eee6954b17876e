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


def tiny_train(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage with tiny networks, two steps, few samples and no files.

  An override is applied to what this returns, so a data set can still be named.
  """
  evaluation, held_out = stage['evaluation'], stage['evaluation']['dataset']
  evaluators = {
    name: {**spec, 'samples': SAMPLES} if 'samples' in spec else spec
    for name, spec in stage['evaluators'].items()
  }
  train = {**stage['train'], 'steps': STEPS, 'images': None, 'epochs': None}
  return with_tiny_networks(
    {
      **stage,
      'dataset': embedded(stage['dataset']),
      'train': {**train, 'batch_size': BATCH_SIZE},
      'log': {'every': {'steps': 1}},
      'evaluation': {
        **evaluation,
        'batch_size': SAMPLES,
        'dataset': held_out and embedded(held_out),
      },
      'evaluators': evaluators,
    }
  )


def tiny_pairs(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage with few pairs and no files."""
  few = {'count': SAMPLES, 'batch_size': BATCH_SIZE, 'shard_size': BATCH_SIZE}
  return {**stage, **few, 'dataset': embedded(stage['dataset'])}


def keep_tiny(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
  """A stage after an override, which may have named another network."""
  if 'network' not in after or names(before) == names(after):
    return after
  return with_tiny_networks(after)


def names(stage: dict[str, Any]) -> list[str]:
  """Of the networks that a stage trains."""
  learners = [stage, *stage['roles'].values()]
  return [each['network']['name'] for each in learners]


def with_tiny_networks(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage with next to no parameters in each of its networks."""
  roles = {
    name: {**role, 'network': tiny_network(role['network'])}
    for name, role in stage['roles'].items()
  }
  return {**stage, 'network': tiny_network(stage['network']), 'roles': roles}


def tiny_network(network: dict[str, Any]) -> dict[str, Any]:
  """The same architecture with next to no parameters."""
  return {**network, **TINY_NETWORKS.get(network['name'], {})}


def embedded(dataset: dict[str, Any]) -> dict[str, Any]:
  """Digits in place of files that another machine may not have."""
  if dataset['name'] not in FROM_FILES:
    return dataset
  return {'name': 'digits', 'size': 8, 'split': dataset['split']}
