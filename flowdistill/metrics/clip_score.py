"""The CLIP score: does an image show what its caption says?

  mean of 100 max(cos(image, text), 0),  in [0, 100]

Source: Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image
Captioning" (2021), https://arxiv.org/abs/2104.08718, eq. 1, with the factor of
torchmetrics, 100, in place of 2.5. The code of torchmetrics takes the maximum
of the mean instead of each pair; the figures agree where no cosine is negative.
"""

import numpy as np

from flowdistill.metrics.blocks import blocks, check_lengths, rows


def clip_score(images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
  """The score of pairs, and its standard error.

  Args:
    images: embeddings [n, d] of the images, not necessarily of length 1.
    texts: embeddings [n, d] of their captions.

  Returns:
    clip_score and clip_score_error.

  Raises:
    ValueError: if there are fewer than two pairs, the shapes differ, or an
      embedding is 0 or not finite.
  """
  images, texts = rows(images, 'images'), rows(texts, 'texts')
  check_lengths(images, texts)
  n = len(images)
  if len(texts) != n or n < 2:
    raise ValueError(
      f'at least two pairs needed, got {n} images and {len(texts)} texts'
    )
  scores = np.concatenate(
    [
      _cosines(x, y, i.start)
      for (i, x), (_, y) in zip(blocks(images), blocks(texts), strict=True)
    ]
  )
  scores = 100 * np.maximum(scores, 0)
  error = np.std(scores, ddof=1) / np.sqrt(n)
  return {'clip_score': float(scores.mean()), 'clip_score_error': float(error)}


def _cosines(images: np.ndarray, texts: np.ndarray, first: int) -> np.ndarray:
  """Of each pair of a block, whose first pair is number `first`."""
  norms = np.linalg.norm(images, axis=1), np.linalg.norm(texts, axis=1)
  for what, norm in zip(('images', 'texts'), norms, strict=True):
    if not norm.all():
      raise ValueError(
        f'the {what} must not be 0; that of index {first + norm.argmin()} is'
      )
  return np.sum(images * texts, axis=1) / (norms[0] * norms[1])
