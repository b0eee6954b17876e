"""`:runlocal`: any config at toy size, the same code path within a minute."""

from typing import Any

RUNLOCAL = 'runlocal'
TINY_NETWORKS = {
  'adm': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'dit': {'width': 16, 'depth': 1, 'heads': 2},
  'edm2': {'width': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'edm_adm': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'edm_ncsnpp': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'flux': {
    'num_layers': 1,
    'num_single_layers': 1,
    'attention_head_dim': 8,
    'num_attention_heads': 2,
    'axes_dims_rope': (2, 4, 2),
    'in_channels': None,
    'out_channels': None,
    'joint_attention_dim': None,
    'pooled_projection_dim': None,
  },
  'mlp': {'width': 16, 'depth': 1},
  'mmdit': {'width': 16, 'depth': 1, 'heads': 2},
  'ncsnpp': {'nf': 4, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'sd3': {
    'sample_size': 8,
    'in_channels': None,
    'num_layers': 2,
    'attention_head_dim': 8,
    'num_attention_heads': 2,
    'joint_attention_dim': None,
    'caption_projection_dim': None,
    'pooled_projection_dim': None,
    'out_channels': None,
    'pos_embed_max_size': 32,
    'dual_attention_layers': (0,),
  },
  'sit': {'width': 16, 'depth': 1, 'heads': 2},
  'stylegan2_discriminator': {'channel_base': 32, 'channel_max': 8},
  'unet': {'width': 8, 'res_blocks': 1, 'ch_mult': (1,), 'attention': 0},
}
FROM_FILES = (
  'folder',
  'tfds',
  'arrays',
  'webdataset',
  'parquet',
  'hugging_face',
  'emoji',
  'latents',
)
TINY_TEXT_ENCODER = {
  'name': 'random_features', 'length': 16, 'width': 16, 'seed': 0, 'cut': True
}  # fmt: skip
TINY_SPACE = {'name': 'patch_dct', 'patch': 2, 'scale': 1.0}
STEPS, BATCH_SIZE, SAMPLES = 2, 16, 32
# Of evaluators; digits have no figures, and other words.
SMALL = {'samples': SAMPLES, 'by_figure': False, 'prompts': ()}


def tiny_train(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage with tiny networks, two steps, few samples and no files.

  Overrides are applied afterwards, so they can still name a data set.
  """
  evaluation, held_out = stage['evaluation'], stage['evaluation']['dataset']
  evaluators = {
    name: {**spec, **{k: v for k, v in SMALL.items() if k in spec}}
    for name, spec in stage['evaluators'].items()
  }
  train = {**stage['train'], 'steps': STEPS, 'images': None, 'epochs': None}
  return with_tiny_networks(
    {
      **stage,
      'dataset': without_files(stage['dataset']),
      'space': tiny_space(stage),
      'train': {**train, 'batch_size': BATCH_SIZE},
      **often_kept(stage),
      # Other trackers may use a network.
      'log': {'every': {'steps': 1}, 'trackers': ('tensorboard',)},
      'evaluation': {
        **evaluation,
        'batch_size': SAMPLES,
        'dataset': held_out and without_files(held_out),
      },
      'evaluators': evaluators,
    }
  )


def often_kept(stage: dict[str, Any]) -> dict[str, Any]:
  """Snapshots of EMAs at every step, if there are any."""
  section = stage['ema_snapshots']
  if section['every'] is None:
    return {}
  return {'ema_snapshots': {**section, 'every': {'steps': 1}}}


def tiny_pairs(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage with few pairs and no files."""
  few = {'count': SAMPLES, 'batch_size': BATCH_SIZE, 'shard_size': BATCH_SIZE}
  return {**tiny_images(stage), **few}


def tiny_encode(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage without files; without weights there is nothing to sample."""
  tiny = tiny_images(stage)
  if stage['text_encoder'] is not None:
    return {**tiny, 'text_encoder': TINY_TEXT_ENCODER}
  if tiny['space'] == stage['space']:
    return tiny
  return {**tiny, 'sample': False, 'seed': 0}


def tiny_images(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage without files, neither of images nor of weights."""
  dataset = without_files(stage['dataset'])
  return {**stage, 'dataset': dataset, 'space': tiny_space(stage)}


def keep_tiny(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
  """A stage after an override, which may have changed a network's name."""
  if 'network' not in after or network_names(before) == network_names(after):
    return after
  return with_tiny_networks(after)


def network_names(stage: dict[str, Any]) -> list[str]:
  """The names of the networks that a stage trains."""
  learners = [stage, *stage['roles'].values()]
  return [learner['network']['name'] for learner in learners]


def with_tiny_networks(stage: dict[str, Any]) -> dict[str, Any]:
  """A stage whose networks have hardly any parameters."""

  def shrink(learner: dict[str, Any]) -> dict[str, Any]:
    network = learner['network']
    tiny = TINY_NETWORKS.get(network['name'], {})
    return {**learner, 'network': {**network, **tiny}}

  roles = {name: shrink(role) for name, role in stage['roles'].items()}
  return shrink({**stage, 'roles': roles})


def without_files(dataset: dict[str, Any]) -> dict[str, Any]:
  """Digits in place of a data set that is read from files, with captions too.

  Latents of an earlier stage, which is tiny too, are none.
  """
  of_stage = f'{dataset.get("path")}'.startswith('stage:')
  if dataset['name'] not in FROM_FILES or of_stage:
    return dataset
  digits = {'name': 'digits', 'size': 8, 'split': dataset.get('split', 'all')}
  text = dataset.get('text')
  if text and text['name'] == 'encoded':
    return {**digits, 'text': TINY_TEXT_ENCODER}
  if text:
    files = {'vocabulary': ''} if 'vocabulary' in text else {}
    return {**digits, 'text': {**text, **files}}
  return digits


def tiny_space(stage: dict[str, Any]) -> dict[str, Any]:
  """A space without weights in place of an autoencoder."""
  return TINY_SPACE if stage['space']['name'] == 'kl' else stage['space']
