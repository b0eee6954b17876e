r"""Your own pictures: a U-Net on a folder, a .zip or a .tar.

  python -m flowdistill.main --config configs/images/folder.py:folder=PATH \
    --workdir runs/mine

The argument is a comma-separated list: folder=PATH, size=64, channels=3,
epochs=200, and by_class if the first folder in the path of a picture is its
class (by_class=false is the default). It evaluates, and keeps a checkpoint, 200
times in all. An epoch of a few pictures is less than a step: 20 of them want
epochs=20000, which is 5 625 steps of 64.

Time and quality depend on the pictures: not yet measured.
"""

from ml_collections import ConfigDict

from flowdistill.config import ConfigError, beside, suggest

flow = beside(__file__, 'flow')
KEYS = ('folder', 'size', 'channels', 'epochs', 'by_class')
SWITCH = {'': True, 'true': True, 'false': False}


def get_config(arg: str = '') -> ConfigDict:
  given: dict[str, str] = {}
  for word in filter(None, arg.split(',')):
    key, _, value = word.partition('=')
    if key not in KEYS:
      raise ConfigError(f'config argument {key!r}: {suggest(key, KEYS)}')
    if key in given:
      raise ConfigError(f'config argument {key} must be given once')
    given[key] = value
  if given.get('folder') == '':
    raise ConfigError('config argument folder must be a path: folder=PATH')
  dataset = {
    'name': 'folder',
    'path': given.get('folder', 'pictures'),
    'size': whole('size', given.get('size', '64')),
    'channels': whole('channels', given.get('channels', '3')),
    'by_class': switch('by_class', given.get('by_class', 'false')),
  }
  epochs = whole('epochs', given.get('epochs', '200'))
  network = {'width': 64, 'ch_mult': (1, 2, 2)}
  config = flow.config(
    dataset, epochs=epochs, rate=1e-4, decay=0.999, network=network
  )
  every = {'epochs': max(1, epochs // 200)}
  config['evaluation']['every'] = config['checkpoint']['every'] = every
  return ConfigDict(config, sort_keys=False)


def switch(key: str, value: str) -> bool:
  """An argument that is on or off."""
  if value.lower() not in SWITCH:
    raise ConfigError(f'config argument {key} = {value} must be true or false')
  return SWITCH[value.lower()]


def whole(key: str, value: str) -> int:
  """An argument as a whole number."""
  if not value.isascii() or not value.isdecimal():
    raise ConfigError(f'config argument {key} = {value} must be a whole number')
  return int(value)
