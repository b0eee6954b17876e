"""Orbax's log: less of it, and the errors that it reports nowhere else.

Orbax logs to absl's logger, as this package does, so that the two cannot have
different levels: a filter goes by the file that a record comes from.
"""

import logging
import pathlib

from absl import logging as absl_logging


def reduce_logging() -> None:
  """Drops Orbax's records below a warning, and its tracebacks.

  Of the tasks that fail with a checkpoint, Orbax awaits one. asyncio, which
  nothing else here uses, would log the others at some later time.
  """
  absl_logging.get_absl_logger().addFilter(_shorten)
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)


def _shorten(record: logging.LogRecord) -> bool:
  if not _is_of_orbax(record):
    return True
  record.exc_info = None  # it is raised where the result is asked for
  return record.levelno >= logging.WARNING


def _is_of_orbax(record: logging.LogRecord) -> bool:
  return 'orbax' in pathlib.Path(record.pathname).parts


class ErrorListener:
  """Notes the first error that a thread of Orbax logs.

  Of several hosts, one whose save fails goes on waiting for the others, which
  wait for it. Until then the error is in its log only.

  Attributes:
    error: the one that was logged, None if there was none.
  """

  def __init__(self) -> None:
    self.error: BaseException | None = None
    logger = absl_logging.get_absl_logger()
    logger.filters.insert(0, self.note)

  def note(self, record: logging.LogRecord) -> bool:
    """A filter of the logger, which lets every record pass."""
    if _is_of_orbax(record) and record.exc_info and not self.error:
      self.error = record.exc_info[1]
    return True

  def close(self) -> None:
    """Stops listening."""
    absl_logging.get_absl_logger().removeFilter(self.note)
