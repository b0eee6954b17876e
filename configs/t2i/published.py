"""What the configs of published text-to-image networks share."""

from typing import Any

from ml_collections import ConfigDict

from flowdistill.config import ConfigError, suggest

KNOWN = (
  *('size', 'teacher', 'latents', 'captions', 'vae', 'rank', 'target_time'),
  'noise',
)
NUMBERS = ('rank', 'noise')
MIDPOINT = 'midpoint'
CHANNELS, FACTOR = 16, 8  # of the autoencoder
FLOW = {
  'objective': {'name': 'rectified_flow', 'times': 'logit_normal'},
  'train': {'steps': 500_000, 'batch_size': 1024, 'drop_cond': 0.1},
  'optim': {'schedule': {'name': 'constant', 'learning_rate': 1e-4}},
}
"""A teacher that is trained here, where none is given."""


def config(
  words: dict[str, str],
  network: dict[str, Any],
  distil: dict[str, Any],
  *,
  data: Any,
  space: Any,
) -> ConfigDict:
  """The stage `distil`, and without a teacher the stage `flow` before it."""
  before = {} if 'teacher' in words else {'flow': FLOW}
  return ConfigDict(
    {
      'dataset': data,
      'space': space,
      'network': {**network, 'dtype': 'bfloat16', 'remat': 'full'},
      'checkpoint': {'every': {'steps': 1000}},
      'evaluators': {},
      'stages': {**before, 'distil': distil},
    },
    sort_keys=False,
  )


def given(arg: str, known: tuple[str, ...] = KNOWN) -> dict[str, str]:
  """The words NAME=VALUE of an argument.

  Raises:
    ConfigError: for a word that is unknown, or a rank that is no number.
  """
  pairs = [word.partition('=') for word in filter(None, arg.split(','))]
  for name, equals, _ in pairs:
    if name not in known or not equals:
      names = [f'{word}=' for word in known]
      raise ConfigError(f'config argument {name!r}: {suggest(name, names)}')
  words = {name: value for name, _, value in pairs}
  for name in NUMBERS:
    if not words.get(name, '1').isdecimal():
      raise ConfigError(
        f'config argument {name}={words[name]} must be a number from 1'
      )
  return words


def of_one_time(words: dict[str, str]) -> bool:
  """Whether the student has the arrays of its teacher alone.

  Raises:
    ConfigError: for another form of the times than 'midpoint'.
  """
  form = words.get('target_time')
  if form not in (None, MIDPOINT):
    raise ConfigError(
      f'config argument target_time={form} must be {MIDPOINT!r}, or left out'
    )
  return form is not None


def data(words: dict[str, str], *, text: tuple[int, int], pooled: int) -> Any:
  """Encoded pictures and captions; or noise of their shapes, to plan a run.

  Args:
    words: of the argument.
    text: tokens of a caption, and their width.
    pooled: the width of the pooled caption.
  """
  if 'noise' in words:
    side = int(words['noise']) // FACTOR
    return {
      'name': 'noise',
      'size': 2,
      'shape': (side, side, CHANNELS),
      'classes': 0,
      'conditions': {'text': text, 'pooled': (pooled,)},
    }
  return encoded(words)


def encoded(words: dict[str, str]) -> dict[str, Any]:
  """Encoded pictures, and their encoded captions."""
  text = {'name': 'encoded', 'path': words.get('captions', 'captions')}
  latents = {'name': 'latents', 'path': words.get('latents', 'latents')}
  return {**latents, 'text': text}


def space(words: dict[str, str], *, scale: float, shift: float) -> Any:
  """A KL autoencoder of 16 channels, as FLUX.1 and SD3 have it."""
  if 'noise' in words:
    return 'pixels'
  return {
    'name': 'kl',
    'path': words.get('vae', 'vae.safetensors'),
    'latent_channels': CHANNELS,
    'use_quant_conv': False,
    'use_post_quant_conv': False,
    'scaling_factor': scale,
    'shift_factor': shift,
  }


def student(
  words: dict[str, str],
  teacher: str,
  layers: tuple[str, ...],
  full: tuple[str, ...],
) -> dict[str, Any]:
  """Where a student starts: the whole network, or with a rank LoRA.

  Args:
    words: of the argument.
    teacher: a reference to the published network.
    layers: patterns of the layers that get low-rank factors.
    full: patterns of the arrays that the teacher does not have.
  """
  half = {'source': teacher, 'dtype': 'bfloat16'}
  start = {'source': teacher, 'matching': True}
  frozen = {'teacher': half}
  if 'rank' not in words:
    return {'init_from': start, 'frozen': frozen}
  return {
    'init_from': {**half, 'matching': True},
    'lora': {'rank': int(words['rank']), 'layers': layers, 'full': full},
    'frozen': frozen,
  }
