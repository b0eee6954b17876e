"""Text conditions: tokens `text` [b, n, d] with a `mask` [b, n], and `pooled`.

In-context conditioning: projected text tokens are appended to the tokens of
the image, take part in every block, and are dropped after the last one. `mask`
is true for real tokens; padding is attended to by none, so that a mask without
a real token, the null condition, is the network without text. Text tokens get
no position embedding, the text encoder has added its own.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022),
https://arxiv.org/abs/2212.09748, section 3.2; a pooled vector in the embedding
of the times as in Esser et al., "Scaling Rectified Flow Transformers for
High-Resolution Image Synthesis" (2024), https://arxiv.org/abs/2403.03206,
section 4.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import DataSpec

Array = jax.Array
TEXT, MASK, POOLED = NAMES = ('text', 'mask', 'pooled')


def check_text(spec: DataSpec) -> None:
  """Checks the shapes of the text conditions of a spec.

  Raises:
    ValueError: unless `text` is [n, d], `mask` [n] beside it, `pooled` [d].
  """
  shapes = {n: spec.cond[n].shape for n in NAMES if n in spec.cond}
  text = shapes.get(TEXT, ())
  for name, right, wanted in (
    (TEXT, len(text) == 2, '[n, d]'),
    (MASK, shapes.get(MASK) == text[:1], f'[n] of {TEXT!r} [n, d]'),
    (POOLED, len(shapes.get(POOLED, ())) == 1, '[d]'),
  ):
    if name in shapes and not right:
      raise ValueError(
        f'condition {name!r} has shape {list(shapes[name])}; it must be '
        f'{wanted}'
      )


def make_projection(
  spec: DataSpec, name: str, width: int, *, rngs: nnx.Rngs
) -> nnx.Linear | None:
  """[..., d] -> [..., width] of a condition, None where the spec has none.

  The kernel starts as small as the label embedding, with deviation 0.02.
  """
  if name not in spec.cond:
    return None
  small = nnx.initializers.normal(0.02)
  size = spec.cond[name].shape[-1]
  return nnx.Linear(size, width, kernel_init=small, rngs=rngs)


def append_text(
  h: Array, cond: Mapping[str, Array], projection: nnx.Linear
) -> tuple[Array, Array]:
  """Tokens h [b, m, width] and projected text [b, m + n, width], and its mask.

  Returns:
    the tokens, and which of them may be attended to, bool [b, m + n].
  """
  text = cond[TEXT]
  shape = text.shape[:2]
  real = cond[MASK].astype(bool) if MASK in cond else jnp.ones(shape, bool)
  # Zeros in place of padding: its product with a zero weight is then finite.
  tokens = projection(jnp.where(real[..., None], text, 0))
  mask = jnp.concatenate([jnp.ones(h.shape[:2], bool), real], axis=1)
  return jnp.concatenate([h, tokens.astype(h.dtype)], axis=1), mask
