"""Text conditions of a transformer: `text` or `tokens`, `mask` and `pooled`.

`text` [b, n, d] are the vectors of an encoder, which are projected; `tokens`
[b, n] are integers, which are embedded, and enter a small transformer (see
`text_layers.py`) that is trained with the network. Both get another position,
zero at initialisation, as an encoder may have added its own. `mask` [b, n] is
true for real tokens: no other token is attended to by one, so that padding has
no effect, and no real token, the null condition, is the network without text.

Source: Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022),
https://arxiv.org/abs/2212.09748, section 3.2 (in-context); a pooled vector in
the embedding of the times as in Esser et al., "Scaling Rectified Flow
Transformers for High-Resolution Image Synthesis" (2024),
https://arxiv.org/abs/2403.03206, section 4.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from flowdistill.flow.spec import TOKENS, DataSpec
from flowdistill.networks.options import NetworkOptions
from flowdistill.networks.ranges import check_choices
from flowdistill.networks.stack import Stack
from flowdistill.networks.text_layers import Layer
from flowdistill.networks.token_layers import normalise

Array = jax.Array
TEXT, MASK, POOLED = 'text', 'mask', 'pooled'
NAMES = (TEXT, TOKENS, MASK, POOLED)
NULLS = ('empty', 'learnt')
SMALL = nnx.initializers.normal(0.02)  # as small as the label embedding
DEPTH = 2  # layers of the transformer of `tokens`


def has_text(spec: DataSpec) -> bool:
  """Whether examples have `text` or `tokens`."""
  return bool({TEXT, TOKENS} & spec.cond.keys())


def check_text(spec: DataSpec) -> None:
  """Checks the shapes of the text conditions of a spec.

  Raises:
    ValueError: unless `text` is [n, d] or `tokens` [n], not both, `mask` [n]
      beside it, `pooled` [d].
  """
  shapes = {n: spec.cond[n].shape for n in NAMES if n in spec.cond}
  if {TEXT, TOKENS} <= shapes.keys():
    raise ValueError(f'conditions must not have both {TEXT!r} and {TOKENS!r}')
  name = TOKENS if TOKENS in shapes else TEXT
  text = shapes.get(name, ())
  known = f'{name!r} {"[n]" if name == TOKENS else "[n, d]"}'
  for name, right, wanted in (
    (TEXT, len(text) == 2, '[n, d]'),
    (TOKENS, len(text) == 1, '[n]'),
    (MASK, shapes.get(MASK) == text[:1], f'[n] of {known}'),
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
  """[..., d] -> [..., width] of a condition, None where the spec has none."""
  if name not in spec.cond:
    return None
  size = spec.cond[name].shape[-1]
  return nnx.Linear(size, width, kernel_init=SMALL, rngs=rngs)


class Text(nnx.Module):
  """The text of `cond` as tokens of a network.

  Args:
    spec: of the data, with `text` or `tokens`.
    width: of a token.
    heads: of the attention among them.
    depth: layers of a transformer of the text; None is 2 for `tokens`, and 0
      for `text`, which an encoder has made.
    null: 'empty', or 'learnt' for a token of its own in place of no text.
    options: those that all networks share.
    rngs: for the initial parameters alone.

  Raises:
    ValueError: if an option is out of range.
  """

  def __init__(
    self,
    spec: DataSpec,
    width: int,
    heads: int,
    *,
    depth: int | None,
    null: str,
    options: NetworkOptions,
    rngs: nnx.Rngs,
  ):
    self.source = TOKENS if TOKENS in spec.cond else TEXT
    if self.source == TEXT:
      size = spec.cond[TEXT].shape[-1]
      self.projection = nnx.Linear(size, width, kernel_init=SMALL, rngs=rngs)
    else:
      self.embedding = nnx.Embed(
        spec.num_tokens, width, embedding_init=SMALL, rngs=rngs
      )
      depth = DEPTH if depth is None else depth
    self.length = spec.cond[self.source].shape[0]
    self.position = nnx.Param(jnp.zeros((self.length, width)))
    self.null = make_null(width, rngs=rngs) if null == 'learnt' else None
    self.layers = make_layers(width, heads, depth or 0, options, rngs=rngs)

  def __call__(self, cond: Mapping[str, Array]) -> tuple[Array, Array]:
    """The tokens [b, n, width], and which of them are real, bool [b, n]."""
    raw = cond[self.source]
    shape = raw.shape[:2]
    real = cond[MASK].astype(bool) if MASK in cond else jnp.ones(shape, bool)
    if self.source == TEXT:
      # Zeros in place of padding: its product with a zero weight is finite.
      h = self.projection(jnp.where(real[..., None], raw, 0))
    else:
      h = self.embedding(raw)
    h = h + self.position[...]
    if self.null is not None:
      h, real = with_null(h, real, self.null[...])
    if self.layers is not None:
      itself = jnp.eye(self.length, dtype=bool)  # so that padding has a key
      h = normalise(self.layers(h, (real[:, None] | itself)[:, None], real))
    return h, real


def make_summary(
  width: int, size: int, text: Text | None, *, rngs: nnx.Rngs
) -> nnx.Linear | None:
  """[b, width], the mean of a text, -> [b, size]; None without text.

  It has no bias: where there is no text, it is 0.
  """
  if text is None:
    return None
  return nnx.Linear(width, size, use_bias=False, rngs=rngs)


def make_null(width: int, *, rngs: nnx.Rngs) -> nnx.Param:
  """A token, as small as an embedding."""
  return nnx.Param(SMALL(rngs.params(), (width,), jnp.float32))


def make_layers(
  width: int,
  heads: int,
  depth: int,
  options: NetworkOptions,
  *,
  rngs: nnx.Rngs,
) -> Stack | None:
  """The transformer of the text, None if it has no layer.

  Raises:
    ValueError: if a head has an odd number of channels.
  """
  if not depth:
    return None
  if width // heads % 2:
    raise ValueError(
      f'a head of the transformer of the text has {width} / {heads} = '
      f'{width // heads} channels, and must have an even number: change the '
      'width or the heads, or set text_depth = 0'
    )
  return Stack(
    lambda rngs: Layer(
      width,
      heads,
      dtype=options.products,
      form=options.attention_form,
      rngs=rngs,
    ),
    depth,
    remat=options.remat,
    rngs=rngs,
  )


def make_text(
  spec: DataSpec,
  width: int,
  heads: int,
  *,
  depth: int | None,
  null: str,
  options: NetworkOptions,
  rngs: nnx.Rngs,
) -> Text | None:
  """The text of a network, None where the spec has none.

  Raises:
    ValueError: if an option is out of range.
  """
  check_choices(null=(null, NULLS))
  if depth is not None and depth < 0:
    raise ValueError(f'text_depth = {depth} must be at least 0')
  if not has_text(spec):
    if null != 'empty' or depth is not None:
      given = f'null = {null!r}' if depth is None else f'text_depth = {depth}'
      raise ValueError(f'{given} has no effect: these examples have no text')
    return None
  return Text(
    spec, width, heads, depth=depth, null=null, options=options, rngs=rngs
  )


def with_null(h: Array, real: Array, null: Array) -> tuple[Array, Array]:
  """Tokens and mask with `null` in the first place where none is real."""
  none = ~jnp.any(real, axis=1, keepdims=True)
  first = jnp.where(none, null, h[:, 0])[:, None]
  h = jnp.concatenate([first.astype(h.dtype), h[:, 1:]], axis=1)
  return h, jnp.concatenate([real[:, :1] | none, real[:, 1:]], axis=1)


def append(h: Array, text: Array, real: Array) -> tuple[Array, Array]:
  """Tokens h [b, m, width] and those of the text, and which may be attended to.

  Returns:
    tokens [b, m + n, width] and bool [b, m + n].
  """
  mask = jnp.concatenate([jnp.ones(h.shape[:2], bool), real], axis=1)
  return jnp.concatenate([h, text.astype(h.dtype)], axis=1), mask


def mean_of(text: Array, real: Array) -> Array:
  """The mean of the real tokens, [b, width]; 0 without any."""
  count = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
  return jnp.sum(jnp.where(real[..., None], text, 0), axis=1) / count
