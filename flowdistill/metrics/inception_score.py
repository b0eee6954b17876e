"""The Inception score: are images of one class each, and of all classes?

  IS = exp E_x KL(p(y | x) ‖ p(y)),  in [1, number of classes]

Source: Salimans et al., "Improved Techniques for Training GANs" (2016),
https://arxiv.org/abs/1606.03498, section 4.
"""

import numpy as np

from flowdistill.metrics.blocks import blocks, rows


def inception_score(
  logits: np.ndarray, *, splits: int = 10, seed: int | None = 0
) -> dict[str, float]:
  """The mean of the score over splits of the samples, and its deviation.

  The score of a split grows with its size. The deviation is that of the paper:
  divided by the number of splits, not by one less. For figures that agree with
  the TensorFlow code of the paper the logits are those without the bias of the
  last layer.

  Args:
    logits: [n, classes].
    splits: number of parts of sizes that differ by at most one.
    seed: of the permutation before the split; None keeps the order, as that
      code does, which for samples in the order of their classes makes the score
      meaningless.

  Returns:
    inception_score and inception_score_deviation.

  Raises:
    ValueError: if there are fewer samples than splits, fewer than two classes,
      or a logit is not finite.
  """
  logits = np.asarray(logits)
  if logits.ndim != 2 or logits.shape[1] < 2:
    raise ValueError(
      f'logits [n, classes] with classes >= 2 needed, got {logits.shape}'
    )
  logits, n = rows(logits, 'logits'), len(logits)
  if not 1 <= splits <= n:
    raise ValueError(
      f'splits = {splits} must be in 1 .. {n}, the number of samples'
    )
  order = np.arange(n)
  if seed is not None:
    order = np.random.default_rng(seed).permutation(n)
  ends = [n * i // splits for i in range(1, splits)]
  scores = [_score(logits[part]) for part in np.split(order, ends)]
  return {
    'inception_score': float(np.mean(scores)),
    'inception_score_deviation': float(np.std(scores)),
  }


def _score(logits: np.ndarray) -> float:
  """exp (Σ_y mean p log p − Σ_y p(y) log p(y)), a block at a time."""
  certainty, classes = 0.0, np.zeros(logits.shape[1])
  for _, block in blocks(logits):
    block = block - block.max(axis=1, keepdims=True)
    log_p = block - np.log(np.exp(block).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    certainty += np.sum(p * log_p)
    classes += p.sum(axis=0)
  classes = classes[classes > 0] / len(logits)  # 0 log 0 = 0
  score = certainty / len(logits) - np.sum(classes * np.log(classes))
  return float(np.exp(max(score, 0)))  # Negative only by rounding.
