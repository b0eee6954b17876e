"""Which numbers optimisers take."""


def check_rate(learning_rate: float) -> None:
  """Raises ValueError unless a rate is above 0 and finite."""
  if not 0 < learning_rate < float('inf'):
    raise ValueError(f'learning_rate = {learning_rate} must be above 0')


def check_moments(eps: float, **shares: float) -> None:
  """Raises ValueError unless eps > 0, and each share lies in [0, 1)."""
  for name, value in shares.items():
    if not 0 <= value < 1:
      raise ValueError(f'{name} = {value} must lie in [0, 1)')
  if not eps > 0:
    raise ValueError(f'eps = {eps} must be above 0')


def check_decay(weight_decay: float) -> None:
  """Raises ValueError unless a decay is at least 0."""
  if not weight_decay >= 0:
    raise ValueError(f'weight_decay = {weight_decay} must be at least 0')
