"""What Orbax logs: less of it, and what it tells nobody else.

It logs to absl's logger, as we do, so its level cannot tell us apart.
"""

import logging
import pathlib

from absl import logging as absl_logging


def quieten() -> None:
  """Drops what Orbax logs below a warning, and its tracebacks.

  Of the tasks that fail with a checkpoint it asks for one; asyncio, which
  nobody else here uses, logs the others, at a moment of its choice.
  """
  absl_logging.get_absl_logger().addFilter(_shorten)
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)


def _shorten(record: logging.LogRecord) -> bool:
  if not _is_of_orbax(record):
    return True
  record.exc_info = None  # whoever asks for the result gets it
  return record.levelno >= logging.WARNING


def _is_of_orbax(record: logging.LogRecord) -> bool:
  return 'orbax' in pathlib.Path(record.pathname).parts


class Ear:
  """Hears of the first error in a thread of Orbax.

  Of several hosts, one whose save fails still waits for the others, which wait
  for it: until then only its log knows.

  Attributes:
    error: that was logged, None for none.
  """

  def __init__(self) -> None:
    self.error: BaseException | None = None
    logger = absl_logging.get_absl_logger()
    logger.filters.insert(0, self.hear)

  def hear(self, record: logging.LogRecord) -> bool:
    if _is_of_orbax(record) and record.exc_info and not self.error:
      self.error = record.exc_info[1]
    return True

  def close(self) -> None:
    absl_logging.get_absl_logger().removeFilter(self.hear)
