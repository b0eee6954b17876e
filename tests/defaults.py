"""What a config may leave out: the names in a table, and their defaults.

A test that spells them out fails when somebody's unchanged config would train
or draw something else.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flowdistill.config.bind import options


def defaults(table: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
  """Name -> {option: default}, for every entry of a table."""
  return {
    name: {key: option.default for key, option in options(entry).items()}
    for name, entry in table.items()
  }
