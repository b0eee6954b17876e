"""What the configs of this folder share: a U-Net that is trained as a flow.

A run has the examples held out as a validation set, the checkpoint with the
least loss on them stays, and every so often there is a grid of samples.
"""

from typing import Any

Spec = dict[str, Any]


def config(
  dataset: Spec, *, epochs: int, rate: float, decay: float, network: Spec
) -> Spec:
  """A rectified flow on a data set that has a split.

  Args:
    dataset: with its options but the split.
    epochs: of training.
    rate: of Adam.
    decay: of the average of the weights.
    network: options of the U-Net.
  """
  sweep = {'student': [['rk4', 100], ['euler', 10]]}
  return {
    'dataset': {**dataset, 'split': 'train'},
    'network': {'name': 'unet', **network},
    'objective': 'rectified_flow',
    'train': {'epochs': epochs, 'batch_size': 64},
    'optim': {
      'optimiser': {'name': 'adamw', 'weight_decay': 1e-4},
      'schedule': {'name': 'constant', 'learning_rate': rate},
    },
    'ema': {'main': {'decay': decay}},
    'evaluation': {
      'every': {'epochs': 1},
      'schedules': {'grid': {'epochs': max(1, epochs // 20)}},
      'dataset': {**dataset, 'split': 'validation'},
      'batch_size': 64,
    },
    'evaluators': {
      'validation': {'name': 'flow_loss'},
      'grid': {'name': 'pictures', 'sweep': sweep},
    },
    'checkpoint': {'every': {'epochs': 1}, 'best': 'student/flow_loss'},
  }
