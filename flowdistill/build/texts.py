"""Texts as a config names them: those of data, and encoders of their own room.

A text encoder that needs no files may also encode captions as they are read;
others run once, in `--job=encode`, and for prompts that are not in its cache.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flowdistill.config.bind import bind
from flowdistill.config.protocols import TextEncoder
from flowdistill.datasets.encoded import Encoded
from flowdistill.datasets.texts import KINDS, TEXTS, Encoder, read_encoder
from flowdistill.text_encoders import TEXT_ENCODERS
from flowdistill.text_encoders.random_features import RandomFeatures


def random_features(
  captions: Sequence[str],
  *,
  length: int = RandomFeatures.length,
  width: int = RandomFeatures.width,
  seed: int = RandomFeatures.seed,
  cut: bool = RandomFeatures.cut,
) -> RandomFeatures:
  """Random features of the words, made as captions are read.

  Args:
    captions: of the data.
    length: number of words.
    width: of a token, a multiple of 4.
    seed: of the features.
    cut: whether longer captions are cut; else they are refused.
  """
  del captions
  return RandomFeatures(length=length, width=width, seed=seed, cut=cut)


TEXT_LAWS = {**TEXTS, 'random_features': random_features}
"""Name in configs -> text(captions, ...)."""
ALL_KINDS = {**KINDS, 'random_features': RandomFeatures}


def read_text(record: Mapping[str, Any]) -> Encoder:
  """The encoder that a spec records.

  Raises:
    ValueError: if it is none.
  """
  found = read_encoder(record, ALL_KINDS)
  if isinstance(found, Encoded):
    return dataclasses.replace(found, live=live_encoder)
  return found


def live_encoder(manifest: Mapping[str, Any]) -> Any:
  """The text encoder that has made a cache, to encode other prompts.

  Raises:
    ConfigError: if its files are not there.
  """
  rooms = {TextEncoder: TEXT_ENCODERS}
  encoder = bind(manifest['options'], TextEncoder, 'text_encoder', rooms)()
  encoder.check()
  return encoder
