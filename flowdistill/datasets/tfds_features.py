"""Which features of a TFDS data set are the picture and its class.

A nested feature has a key with /, such as `attributes/Male` of `celeb_a`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Feature = Any  # of tensorflow_datasets, which is imported where it is used
Parse = Callable[[bytes], tuple[Any, ...]]
DEPTHS = (np.uint8, np.uint16)  # dtypes of pixels; others are not pictures
FLAGS = ('False', 'True')


def leaves(tree: Feature, at: str = '') -> dict[str, Feature]:
  """Every feature that has no features inside it, by its key."""
  from tensorflow_datasets import features

  flat = {}
  for name, feature in tree.items():
    nests = isinstance(feature, features.FeaturesDict)
    flat |= leaves(feature, f'{at}{name}/') if nests else {at + name: feature}
  return flat


def image_key(features: Mapping[str, Feature], image: str | None) -> str:
  """The key of the picture: `image`, or that of the only picture.

  Raises:
    ValueError: if there is none or several, or `image` is not a picture.
  """
  keys = [key for key, feature in features.items() if is_image(feature)]
  if image in keys:
    return image
  if image is None and len(keys) == 1:
    return keys[0]
  raise ValueError(f'image = {image!r} must be {one_of(keys, features)}')


def label_key(features: Mapping[str, Feature], label: str | None) -> str:
  """The key of the label: `label`, or that of the only one that is no flag.

  Raises:
    ValueError: if there is none or several, or `label` is not a label.
  """
  keys = [key for key, feature in features.items() if class_names(feature)]
  many = [key for key in keys if not is_flag(features[key])]
  if label in keys:
    return label
  if label is None and len(many) == 1:
    return many[0]
  raise ValueError(
    f'label = {label!r} must be {one_of(keys, features)}; by_class = False '
    'ignores labels'
  )


def one_of(keys: Sequence[str], every: Iterable[str]) -> str:
  """'one of a, b', or that there is none among all keys."""
  if keys:
    return f'one of {", ".join(sorted(keys))}'
  return f'the key of one, and there is none among {", ".join(sorted(every))}'


def is_image(feature: Feature) -> bool:
  """Whether a feature is a picture; a map of labels is not."""
  from tensorflow_datasets import features

  picture = isinstance(feature, features.Image)
  labelled = isinstance(feature, features.LabeledImage)
  return picture and not labelled and feature.np_dtype in DEPTHS


def is_flag(feature: Feature) -> bool:
  """Whether a feature is a boolean scalar."""
  return getattr(feature, 'shape', None) == () and feature.np_dtype == np.bool_


def class_names(feature: Feature) -> tuple[str, ...]:
  """The names of a feature's classes, in label order; empty if it has none."""
  from tensorflow_datasets import features

  if isinstance(feature, features.ClassLabel):
    return tuple(feature.names) if feature.num_classes else ()
  return FLAGS if is_flag(feature) else ()


def make_parse(
  every: Mapping[str, Feature], image: str | None, label: str | None
) -> Parse:
  """parse(record) -> (the picture's file, its label), without a None.

  The other features of a record are not parsed.
  """
  from tensorflow_datasets import decode, features

  keys = [key for key in (image, label) if key is not None]
  wanted = features.FeaturesDict(nested({key: every[key] for key in keys}))
  skip = {} if image is None else nested({image: decode.SkipDecoding()})

  def parse(record: bytes) -> tuple[Any, ...]:
    example: Any = wanted.deserialize_example_np(record, decoders=skip)
    return tuple(leaf(example, key) for key in keys)

  return parse


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  """{'a/b': 1} -> {'a': {'b': 1}}."""
  tree: dict[str, Any] = {}
  for key, value in flat.items():
    *above, last = key.split('/')
    at = tree
    for name in above:
      at = at.setdefault(name, {})
    at[last] = value
  return tree


def leaf(example: Mapping[str, Any], key: str) -> Any:
  """{'a': {'b': 1}} at 'a/b' -> 1."""
  value: Any = example
  for name in key.split('/'):
    value = value[name]
  return value
