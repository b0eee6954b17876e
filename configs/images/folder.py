r"""Your own pictures: a U-Net on a folder, a .zip or a .tar.

  python -m flowdistill.main --config configs/images/folder.py:folder=PATH \
    --workdir runs/mine

The argument is a comma-separated list: folder=PATH, size=64, channels=3, and
by_class if the first folder in the path of a picture is its class.

Time and quality depend on the pictures: not yet measured.
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
  """An argument as a whole number."""
  if not value.isdecimal():
    raise ConfigError(f'config argument {key} = {value} must be a whole number')
  return int(value)
