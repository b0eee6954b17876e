"""A config that makes pairs and learns from them, and what the job writes."""

from jobs import tiny

from flowdistill.jobs import pairs

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  stages = {
    'flow': {'objective': 'rectified_flow', 'train': {'steps': 30}},
    'distil': {
      'objective': {'name': 'mean_flow', 'distil': True},
      'frozen': {'teacher': 'stage:flow'}, 'train': {'steps': 3},
    },
    'pairs': {
      'job': 'pairs', 'teacher': 'stage:flow', 'sampler': 'heun', 'nfe': 9,
      'count': 50, 'shard_size': 20, 'batch_size': 8,
    },
    'guided': {
      'job': 'pairs', 'teacher': 'stage:flow', 'sampler': 'euler', 'nfe': 16,
      'guides': {'weak': 'stage:distil'}, 'count': 20, 'batch_size': 8,
      'options': {'guidance': {'scale': 1.5, 'against': 'weak'}},
    },
    'reflow': {
      'pairs': 'stage:pairs', 'init_from': 'stage:flow',
      'objective': {'name': 'rectified_flow', 'coupling': 'paired'},
      'train': {'steps': 4},
    },
  }
  return ConfigDict({
    'dataset': {'name': 'gaussians'},
    'network': {'name': 'mlp', 'width': 16, 'depth': 1},
    'train': {'batch_size': 32},
    'stages': stages,
  }, sort_keys=False)
"""


def make(run, **options):
  config, workdir = run
  return tiny.run(pairs, tiny.stages(config), workdir, pairs.Options(**options))


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}
