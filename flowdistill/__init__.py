"""Distils flow models into flow maps that sample in one to four steps."""

import sys

COMMAND = sys.argv[0] == '-m'  # `python -m` is looking for the module to run
try:
  if COMMAND:
    from flowdistill.training.stdio import open_missing

    open_missing()
  from flowdistill.run import Run, load
except KeyboardInterrupt:
  if not COMMAND:
    raise
  print('error: stopped by SIGINT', file=sys.stderr)
  sys.exit(130)

__all__ = ['Run', 'load']
__version__ = '0.1.0'
