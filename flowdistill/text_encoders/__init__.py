"""Text encoders, functions `f(*, ...) -> TextEncoder`; see `encoder.py`.

Those of `rows.py` are models of transformers in local folders, which run in
PyTorch, as `openuni` does; `random_features` needs no files.
"""

from collections.abc import Callable

from flowdistill.text_encoders.combined import SD3, Flux
from flowdistill.text_encoders.encoder import TextEncoder
from flowdistill.text_encoders.openuni import OpenUni
from flowdistill.text_encoders.random_features import RandomFeatures
from flowdistill.text_encoders.rows import CLIP_POOLED, ROWS, Row
from flowdistill.text_encoders.running import PLAIN, Running
from flowdistill.text_encoders.tower import Tower


def published(name: str, row: Row) -> Callable[..., TextEncoder]:
  """What makes the encoder of a row."""

  def make(
    *,
    path: str = '',
    tokenizer: str = '',
    length: int = row.length,
    running: Running = PLAIN,
  ) -> TextEncoder:
    """A text encoder of one model.

    Args:
      path: the folder of the model, with config.json and .safetensors.
      tokenizer: that of the tokenizer; by default the same.
      length: tokens that are encoded.
      running: how it runs.
    """
    return Tower(name, row, path, tokenizer or path, length, running)

  return make


def flux(
  *,
  clip_l: str = '',
  clip_l_tokenizer: str = '',
  t5_xxl: str = '',
  t5_xxl_tokenizer: str = '',
  length: int = 512,
  running: Running = PLAIN,
) -> Flux:
  """The text of FLUX.1; the folders are those of its pipeline.

  Args:
    clip_l: `text_encoder`.
    clip_l_tokenizer: `tokenizer`; by default the same as `clip_l`.
    t5_xxl: `text_encoder_2`.
    t5_xxl_tokenizer: `tokenizer_2`; by default the same as `t5_xxl`.
    length: tokens of T5, 512 of FLUX.1-dev and 256 of schnell.
    running: how they run.
  """
  clip = part('clip_l', CLIP_POOLED, clip_l, clip_l_tokenizer, 77, running)
  t5 = ROWS['t5_xxl']
  return Flux(
    'flux',
    (clip, part('t5_xxl', t5, t5_xxl, t5_xxl_tokenizer, length, running)),
  )


def sd3(
  *,
  clip_l: str = '',
  clip_l_tokenizer: str = '',
  clip_g: str = '',
  clip_g_tokenizer: str = '',
  t5_xxl: str = '',
  t5_xxl_tokenizer: str = '',
  length: int = 256,
  running: Running = PLAIN,
) -> SD3:
  """The text of SD3 and SD3.5; the folders are those of its pipeline.

  Args:
    clip_l: `text_encoder`.
    clip_l_tokenizer: `tokenizer`; by default the same as `clip_l`.
    clip_g: `text_encoder_2`.
    clip_g_tokenizer: `tokenizer_2`; by default the same as `clip_g`.
    t5_xxl: `text_encoder_3`; '' for zeros in its place.
    t5_xxl_tokenizer: `tokenizer_3`; by default the same as `t5_xxl`.
    length: tokens of T5, which follow 77 of the others.
    running: how they run.
  """
  towers = [
    part('clip_l', ROWS['clip_l'], clip_l, clip_l_tokenizer, 77, running),
    part('clip_g', ROWS['clip_g'], clip_g, clip_g_tokenizer, 77, running),
  ]
  if t5_xxl:
    row = ROWS['t5_xxl']
    more = part('t5_xxl', row, t5_xxl, t5_xxl_tokenizer, length, running)
    towers.append(more)
  return SD3('sd3', tuple(towers), length)


def openuni(
  *,
  path: str = '',
  internvl3: str = '',
  tokenizer: str = '',
  proj_type: str = 'enc_proj',
  running: Running = PLAIN,
) -> OpenUni:
  """The text of OpenUni.

  Args:
    path: a .safetensors or .pth with `meta_queries`, `connector` and
      `projector`, such as a whole checkpoint of OpenUni.
    internvl3: the folder of InternVL3, of its authors or for transformers; only
      its language model is read.
    tokenizer: that of the tokenizer; by default the same.
    proj_type: where the linear layer is: before the connector ('proj_enc'),
      behind it ('enc_proj', in all published ones) or 'proj_enc_proj'.
    running: how it runs.
  """
  return OpenUni(path, internvl3, tokenizer or internvl3, proj_type, running)


def part(
  name: str, row: Row, path: str, tokenizer: str, length: int, running: Running
) -> Tower:
  """One of several towers."""
  keys = name, f'{name}_tokenizer'
  return Tower(name, row, path, tokenizer or path, length, running, keys)


TEXT_ENCODERS = {
  'random_features': RandomFeatures,
  **{name: published(name, row) for name, row in ROWS.items()},
  'flux': flux,
  'sd3': sd3,
  'openuni': openuni,
}
