"""Class labels [n]: their check, and the number and names of classes."""

from collections.abc import Sequence

import numpy as np

LISTED = 5  # empty classes that a message names
MOST = 2**31 - 1  # labels are int32


def checked_labels(label: np.ndarray, n: int) -> np.ndarray:
  """The labels of n examples as int32 [n].

  Raises:
    ValueError: for another dtype, length or range.
  """
  kind = f'label = {label.dtype} {[*label.shape]}'
  if label.dtype.kind not in 'iu' or label.shape != (n,):
    raise ValueError(
      f'{kind} must be integers [{n}], as x0 has {n} rows{_advice(label, n)}'
    )
  least, most = int(label.min()), int(label.max())
  if least < 0 or most >= MOST:
    raise ValueError(
      f'label has values from {least} to {most}; it must count from 0, and '
      f'no further than {MOST - 1}'
    )
  return np.asarray(label, np.int32)


def _advice(label: np.ndarray, n: int) -> str:
  """How to make labels of what is there."""
  if label.shape == (n, 1):
    return '; take label[:, 0]'
  if label.ndim == 2 and len(label) == n:
    return '; of one-hot labels take label.argmax(1)'
  if label.shape == (n,) and label.dtype.kind == 'b':
    return '; take label.astype(int)'
  if label.shape == (n,) and label.dtype.kind == 'f':
    whole = np.array_equal(label, np.round(label))
    return '; take label.astype(int)' if whole else ''
  if label.shape == (n,) and label.dtype.kind in 'US':
    return '; of names take numpy.unique(label, return_inverse=True)[1]'
  return ''


def checked_classes(
  labels: np.ndarray, classes: int | Sequence[str] | None
) -> tuple[int, tuple[str, ...]]:
  """(number of classes, their names, empty where unknown).

  Args:
    labels: int32 [n].
    classes: the number of classes or their names; None is the largest label
      plus one.

  Raises:
    ValueError: if a label has no class, or, without `classes`, if a class has
      no example: it would be drawn as the others are.
  """
  count = int(labels.max()) + 1
  if classes is None:
    _check_full(labels, count)
    return count, ()
  if not isinstance(classes, (int, tuple, list)):
    raise ValueError(f'classes = {classes!r} must be a number, or their names')
  names = () if isinstance(classes, int) else tuple(map(str, classes))
  number = classes if isinstance(classes, int) else len(names)
  if number < count:
    raise ValueError(
      f'classes = {classes!r} must be at least {count}, as a label is '
      f'{count - 1}'
    )
  if number > MOST:
    raise ValueError(f'classes = {classes!r} must be at most {MOST}')
  if len(set(names)) != len(names) or '' in names:
    raise ValueError(
      f'classes = {classes!r} must have each name once, and none that is empty'
    )
  return number, names


def _check_full(labels: np.ndarray, count: int) -> None:
  present = np.unique(labels)
  empty = count - len(present)
  if not empty:
    return
  seen = set(present.tolist())
  first = [k for k in range(len(present) + LISTED) if k not in seen][:LISTED]
  named = ', '.join(map(str, first[:empty]))
  more = ', ...' if empty > LISTED else ''
  hint = f'subtract {present[0]}, or ' if present[0] else ''
  if empty != present[0]:  # gaps
    hint = 'take numpy.unique(label, return_inverse=True)[1], or '
  raise ValueError(
    f'label has values from {present[0]} to {count - 1}, and no example is of '
    f'{empty} of the {count} classes ({named}{more}): {hint}set classes = '
    f'{count} if empty classes are meant'
  )
