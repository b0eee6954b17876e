"""Captioned digits of 8 x 8 by a tiny FLUX, or SD3.5, by the argument.

A velocity teacher, and a student of two times that starts from it.
"""

from ml_collections import ConfigDict

TEXT = {'name': 'random_features', 'length': 4, 'width': 8}
NETWORKS = {
  'flux': {
    'name': 'flux',
    'num_layers': 1,
    'num_single_layers': 1,
    'attention_head_dim': 8,
    'num_attention_heads': 2,
    'axes_dims_rope': (2, 4, 2),
    'guidance_embeds': True,
  },
  'sd3': {
    'name': 'sd3',
    'sample_size': 8,
    'num_layers': 1,
    'attention_head_dim': 8,
    'num_attention_heads': 2,
    'pos_embed_max_size': 6,
    'dual_attention_layers': (0,),
    'qk_norm': 'rms_norm',
  },
}
TWO_TIMES = {'target_time': 'scaled_gap', 'second': 'copied'}


def get_config(arg=''):
  network = NETWORKS[arg]
  guided = {'guidance': {'name': 'fixed', 'scale': 1.5}, 'against': 'null'}
  return ConfigDict(
    {
      'dataset': {'name': 'digits', 'text': TEXT},
      'train': {'steps': 2, 'batch_size': 8, 'drop_cond': 0.25},
      'log': {'every': 1},
      'evaluators': {},
      'stages': {
        'flow': {'network': network, 'objective': 'rectified_flow'},
        'distil': {
          'network': {**network, **TWO_TIMES},
          'init_from': {'source': 'stage:flow', 'matching': True},
          'frozen': {'teacher': 'stage:flow'},
          'objective': {'name': 'ayf_emd', 'warmup_steps': 4, **guided},
        },
      },
    },
    sort_keys=False,
  )
