r"""Pictures of your own: a U-Net on a folder, a .zip or a .tar.

  python -m flowdistill.main --config configs/images/folder.py:folder=PATH \
    --workdir runs/mine

Arguments, with commas: folder=PATH, size=64, channels=3, and by_class if the
first folder in a name is its class.
"""

from ml_collections import ConfigDict

from flowdistill.config import ConfigError, beside, suggest

flow = beside(__file__, 'flow')
KEYS = ('folder', 'size', 'channels', 'by_class')


def get_config(arg: str = '') -> ConfigDict:
  words = (word.partition('=') for word in arg.split(',') if word)
  given = {key: value for key, _, value in words}
  for key in given:
    if key not in KEYS:
      raise ConfigError(f'config argument {key!r}: {suggest(key, KEYS)}')
  dataset = {
    'name': 'folder',
    'path': given.get('folder', 'pictures'),
    'size': whole('size', given.get('size', '64')),
    'channels': whole('channels', given.get('channels', '3')),
    'by_class': 'by_class' in given,
  }
  network = {'width': 64, 'ch_mult': (1, 2, 2)}
  return ConfigDict(
    flow.config(dataset, epochs=200, rate=1e-4, decay=0.999, network=network),
    sort_keys=False,
  )


def whole(key: str, value: str) -> int:
  """The number that an argument says."""
  if not value.isdecimal():
    raise ConfigError(
      f'config argument {key}={value}: it must be a whole number'
    )
  return int(value)
