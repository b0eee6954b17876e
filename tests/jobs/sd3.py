"""Captioned digits of 8 x 8 by a tiny SD3.5.

A velocity teacher, and a student of two times that starts from it.
"""

from ml_collections import ConfigDict

TEXT = {'name': 'random_features', 'length': 4, 'width': 8}
NETWORK = {
  'name': 'sd3',
  'sample_size': 8,
  'num_layers': 1,
  'attention_head_dim': 8,
  'num_attention_heads': 2,
  'pos_embed_max_size': 6,
  'dual_attention_layers': (0,),
  'qk_norm': 'rms_norm',
}
TWO_TIMES = {'target_time': 'scaled_gap', 'second': 'copied'}


def get_config(arg=''):
  del arg
  guided = {'guidance': {'name': 'fixed', 'scale': 1.5}, 'against': 'null'}
  return ConfigDict(
    {
      'dataset': {'name': 'digits', 'text': TEXT},
      'train': {'steps': 2, 'batch_size': 8, 'drop_cond': 0.25},
      'log': {'every': 1},
      'evaluators': {},
      'stages': {
        'flow': {'network': NETWORK, 'objective': 'rectified_flow'},
        'distil': {
          'network': {**NETWORK, **TWO_TIMES},
          'init_from': {'source': 'stage:flow', 'matching': True},
          'frozen': {'teacher': 'stage:flow'},
          'objective': {'name': 'ayf_emd', 'warmup_steps': 4, **guided},
        },
      },
    },
    sort_keys=False,
  )
