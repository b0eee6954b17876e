"""Range checks of options."""

from collections.abc import Sequence


def check_sizes(**sizes: int) -> None:
  """Raises ValueError unless every size is at least 1."""
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f'{name} = {size} must be at least 1')


def check_dropout(dropout: float) -> None:
  """Raises ValueError unless a dropout rate lies in [0, 1)."""
  if not 0 <= dropout < 1:
    raise ValueError(f'dropout = {dropout} must lie in [0, 1)')


def check_choices(**options: tuple[str, Sequence[str]]) -> None:
  """Raises ValueError unless each value is one of its choices."""
  for name, (value, choices) in options.items():
    if value not in choices:
      words = ', '.join(map(repr, choices))
      raise ValueError(f'{name} = {value!r} must be one of {words}')
