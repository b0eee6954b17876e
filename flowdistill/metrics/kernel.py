"""The kernel distance: squared maximum mean discrepancy of sets of features.

  MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y),  k(x, y) = (x·y / d + 1)³

It is called KID only if the features are those of the Inception network.

Source: Binkowski et al., "Demystifying MMD GANs" (2018),
https://arxiv.org/abs/1801.01401, section 4; the standard error of a statistic
of two samples by the jackknife: Arvesen, "Jackknifing U-Statistics" (1969),
https://doi.org/10.1214/aoms/1177697287.
"""

import numpy as np

from flowdistill.metrics.blocks import across, check_lengths, rows, within


def kernel_distance(
  samples: np.ndarray,
  reference: np.ndarray,
  *,
  subsets: int | None = 100,
  size: int = 1000,
  seed: int = 0,
) -> dict[str, float]:
  """An unbiased estimate, which may be negative, and its standard error.

  By default that is the mean over pairs of random subsets, as KID is usually
  reported, and the error is the standard deviation of a subset's MMD² over
  √subsets: that of the choice of subsets. They overlap, so that it is less than
  the error of the two sets themselves.

  With `subsets` None it is MMD² from all pairs, and the error is that of the
  jackknife, which leaves out one example of either set at a time; where the
  distributions are equal it is of the size of the deviation from 0, or larger.

  Args:
    samples: features [n, d].
    reference: features [m, d].
    subsets: number of pairs of subsets, at least 2; None takes all pairs.
    size: examples of a subset, drawn without replacement.
    seed: of the subsets.

  Returns:
    kernel and kernel_error.

  Raises:
    ValueError: if a set has fewer than `size` examples, or than three for all
      pairs; the lengths differ, or a value is not finite.
  """
  a, b = rows(samples, 'samples'), rows(reference, 'reference')
  check_lengths(a, b)
  least = min(len(a), len(b))
  if subsets is None:
    if least < 3:
      raise ValueError(
        'subsets = None needs at least three examples in each set, got '
        f'{len(a)} and {len(b)}'
      )
    return _figures(*_of_all_pairs(a, b))
  if subsets < 2:
    raise ValueError(f'subsets = {subsets} must be at least 2, or None')
  if not 2 <= size <= least:
    raise ValueError(
      f'size = {size} must be in 2 .. {least}, the number of examples in the '
      'smaller set'
    )
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(subsets):
    x, y = (s[rng.choice(len(s), size, replace=False)] for s in (a, b))
    found.append(_unbiased(*_sums(x, y)))
  error = np.std(found, ddof=1) / np.sqrt(subsets)
  return _figures(float(np.mean(found)), float(error))


def _figures(value: float, error: float) -> dict[str, float]:
  return {'kernel': value, 'kernel_error': error}


def _of_all_pairs(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  within_a, within_b, across_a, across_b = _sums(a, b)
  variance = _jackknife(within_a, across_a, len(b))
  variance += _jackknife(within_b, across_b, len(a))
  value = _unbiased(within_a, within_b, across_a, across_b)
  return value, float(np.sqrt(variance))


def _unbiased(
  within_a: np.ndarray,
  within_b: np.ndarray,
  across_a: np.ndarray,
  across_b: np.ndarray,
) -> float:
  n, m = len(within_a), len(within_b)
  del across_b  # The same pairs as those of across_a.
  mean_a = within_a.sum() / (n * (n - 1))
  mean_b = within_b.sum() / (m * (m - 1))
  return float(mean_a + mean_b - 2 * across_a.sum() / (n * m))


def _sums(
  a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Σ of the kernel over the pairs of each example of a [n, d] and b [m, d].

  Returns:
    within its set, without itself, [n] and [m]; with the other set, the same.
  """
  across_a, across_b = np.zeros(len(a)), np.zeros(len(b))
  for i, j, x, y in across(a, b):
    kernel = _kernel(x, y)
    across_a[i] += kernel.sum(axis=1)
    across_b[j] += kernel.sum(axis=0)
  return _sums_within(a), _sums_within(b), across_a, across_b


def _sums_within(a: np.ndarray) -> np.ndarray:
  sums = np.zeros(len(a))
  for i, j, x, y in within(a):
    kernel = _kernel(x, y)
    if i == j:
      np.fill_diagonal(kernel, 0)
    else:
      sums[j] += kernel.sum(axis=0)
    sums[i] += kernel.sum(axis=1)
  return sums


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  inner = x @ y.T / x.shape[1] + 1
  return inner * inner * inner


def _jackknife(within: np.ndarray, across: np.ndarray, m: int) -> float:
  """The variance of MMD² that comes from one set of n examples.

  Args:
    within: sums over the pairs of each example within its set, [n].
    across: sums over its pairs with the other set, [n].
    m: size of the other set.
  """
  n = len(within)
  left_within = (within.sum() - 2 * within) / ((n - 1) * (n - 2))
  left_across = (across.sum() - across) / ((n - 1) * m)
  return float((n - 1) * np.var(left_within - 2 * left_across))
