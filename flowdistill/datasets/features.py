"""Which features of a TFDS data set are the picture and its class.

A feature of a feature has a key with /, as `attributes/Male` of `celeb_a`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Feature = Any  # of tensorflow_datasets, which is imported where it is used
Parse = Callable[[bytes], tuple[Any, ...]]
DEPTHS = (np.uint8, np.uint16)  # of pixels; others are numbers, no pictures


def leaves(tree: Feature, at: str = '') -> dict[str, Feature]:
  """Every feature that is none of other features, by its key."""
  from tensorflow_datasets import features

  found = {}
  for name, feature in tree.items():
    below = isinstance(feature, features.FeaturesDict)
    found |= leaves(feature, f'{at}{name}/') if below else {at + name: feature}
  return found


def image_key(found: Mapping[str, Feature], image: str | None) -> str:
  """The key of the pictures: `image`, or that of the only ones.

  Raises:
    ValueError: if there are none, or several, or `image` is none.
  """
  keys = [key for key, feature in found.items() if is_image(feature)]
  if image in keys:
    return image
  if image is None and len(keys) == 1:
    return keys[0]
  raise ValueError(f'image = {image!r} must be {one_of(keys, found)}')


def label_key(found: Mapping[str, Feature], label: str | None) -> str:
  """The key of the classes: `label`, or that of the only ones.

  Raises:
    ValueError: if there are none, or several, or `label` is none.
  """
  keys = [key for key, feature in found.items() if class_count(feature)]
  many = [key for key in keys if not is_flag(found[key])]
  if label in keys:
    return label
  if label is None and len(many) == 1:
    return many[0]
  raise ValueError(
    f'label = {label!r} must be {one_of(keys, found)}; without classes it is '
    'by_class = False'
  )


def one_of(keys: Sequence[str], found: Iterable[str]) -> str:
  """'one of a, b', or that there are none."""
  if keys:
    return f'one of {", ".join(sorted(keys))}'
  return f'the key of one, and there is none among {", ".join(sorted(found))}'


def is_image(feature: Feature) -> bool:
  """Whether a feature is a picture; a map of labels is none."""
  from tensorflow_datasets import features

  picture = isinstance(feature, features.Image)
  labelled = isinstance(feature, features.LabeledImage)
  return picture and not labelled and feature.np_dtype in DEPTHS


def is_flag(feature: Feature) -> bool:
  """Whether a feature is true or false."""
  return getattr(feature, 'shape', None) == () and feature.np_dtype == np.bool_


def class_count(feature: Feature) -> int:
  """How many classes a feature tells apart; 0 if it is none of classes."""
  from tensorflow_datasets import features

  if isinstance(feature, features.ClassLabel):
    return feature.num_classes or 0
  return 2 if is_flag(feature) else 0


def make_parse(
  found: Mapping[str, Feature], image: str | None, label: str | None
) -> Parse:
  """parse(record) -> (the picture's file, its class), of those that are asked.

  The other features of a record stay what they are, bytes.
  """
  from tensorflow_datasets import decode, features

  keys = [key for key in (image, label) if key is not None]
  wanted = features.FeaturesDict(nested({key: found[key] for key in keys}))
  skip = {} if image is None else nested({image: decode.SkipDecoding()})

  def parse(record: bytes) -> tuple[Any, ...]:
    example: Any = wanted.deserialize_example_np(record, decoders=skip)
    return tuple(leaf(example, key) for key in keys)

  return parse


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  """{'a/b': 1} -> {'a': {'b': 1}}."""
  found: dict[str, Any] = {}
  for key, value in flat.items():
    *above, last = key.split('/')
    at = found
    for name in above:
      at = at.setdefault(name, {})
    at[last] = value
  return found


def leaf(example: Mapping[str, Any], key: str) -> Any:
  """{'a': {'b': 1}} at 'a/b' -> 1."""
  found: Any = example
  for name in key.split('/'):
    found = found[name]
  return found
