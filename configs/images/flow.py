"""What the configs of this folder share: a rectified flow with a U-Net.

Held-out examples are the validation set; the checkpoint with the lowest
validation loss is kept, and a grid of samples is drawn at intervals.
"""

from typing import Any

Spec = dict[str, Any]


def config(
  dataset: Spec, *, epochs: int, rate: float, decay: float, network: Spec
) -> Spec:
  """A rectified flow on a data set that has splits.

  Args:
    dataset: its name and options, without the split.
    epochs: of training.
    rate: the learning rate of AdamW.
    decay: of the EMA weights.
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
