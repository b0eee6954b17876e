"""Pictures in the records of a data set of TensorFlow Datasets."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.features import (
  Feature,
  class_count,
  image_key,
  label_key,
  leaves,
  make_parse,
)
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.prepared import open_prepared, open_records
from flowdistill.datasets.split import indices


def tfds(
  *,
  builder: str = '',
  data_dir: str | None = None,
  examples: str = 'train',
  image: str | None = None,
  label: str | None = None,
  by_class: bool = True,
  size: int | None = None,
  channels: int | None = None,
  resize: str = 'centre_crop',
  split: str = 'all',
  validation: float = 0.1,
  held_out: str | None = None,
  max_broken: float = 0.01,
) -> Pictures:
  """Pictures of a data set of TFDS that was prepared before.

  Args:
    builder: its name, 'mnist', with a config and a version where there are
      several: 'downsampled_imagenet/64x64', 'mnist:3.0.1'.
    data_dir: where it was prepared; None is $TFDS_DATA_DIR, or
      ~/tensorflow_datasets.
    examples: the split of TFDS in its own words: 'train', 'train+test',
      'train[:90%]'.
    image: key of the feature that is the picture; None takes the only one.
    label: key of the feature that is the class; None takes the only one.
    by_class: whether examples have classes.
    size: of the square that is made of a picture, in pixels; None takes that
      of the data set, if all are squares of one size.
    channels: 3 for colours, 1 for grey; None takes those of the data set.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    split: 'all', 'train' or 'validation' of `examples`, by a hash of the
      place among them.
    validation: share of `examples` that is held out, in [0, 1].
    held_out: a file with the places among `examples` that are held out, one a
      line, the first is 0, in place of the hash.
    max_broken: share of pictures that may be broken before it is an error.

  Raises:
    ValueError: if it is not prepared, saying how that is done, or an option is
      out of range.
  """
  if label is not None and not by_class:
    raise ValueError(f'label = {label!r} needs by_class = True')
  found = open_prepared(builder, data_dir)
  features = leaves(found.info.features)
  image = image_key(features, image)
  label = label_key(features, label) if by_class else None
  records = open_records(found, examples)
  places = indices(
    len(records), split, validation=validation, held_out=held_out
  )
  return Pictures(
    Records(records, features, image, label, places, f'{builder} {examples}'),
    class_count(features[label]) if label else 0,
    size=side(features[image]) if size is None else size,
    channels=depth(features[image]) if channels is None else channels,
    resize=resize,
    max_broken=max_broken,
  )


def side(image: Feature) -> int:
  """The size of pictures that are squares.

  Raises:
    ValueError: if they are none, or of many sizes.
  """
  height, width, _ = image.shape
  if height is None or height != width:
    raise ValueError(
      f'size = None must be a number: pictures are {height} x {width}'
    )
  return height


def depth(image: Feature) -> int:
  """1 for pictures that are all grey, else 3."""
  return 1 if image.shape[2] == 1 else 3


def known_class(label: Any) -> int:
  """A class as a number; TFDS has -1 where nobody knows it."""
  if label < 0:
    raise ValueError(
      f'its class is {label}; without classes it is by_class = False'
    )
  return int(label)


class Records:
  """Some of the pictures in records (see `pictures.Encoded`).

  Args:
    records: as bytes.
    features: of a record, by key.
    image, label: keys; without a label there are no classes.
    places: of the pictures among the records, [n].
    title: of all records, for messages.
  """

  def __init__(
    self,
    records: Sequence[bytes],
    features: Mapping[str, Feature],
    image: str,
    label: str | None,
    places: np.ndarray,
    title: str,
  ):
    self.records, self.places, self.title = records, places, title
    self.has_labels = label is not None
    self._parse = make_parse(features, image, label)
    self._parse_label = make_parse(features, None, label)

  def __len__(self) -> int:
    return len(self.places)

  @property
  def labels(self) -> np.ndarray | None:
    """int32 [n], None without classes; the first time it reads all records."""
    return self._labels if self.has_labels else None

  @functools.cached_property
  def _labels(self) -> np.ndarray:
    found = (self.records[k] for k in self.places.tolist())
    known = [known_class(self._parse_label(record)[0]) for record in found]
    return np.asarray(known, np.int32)

  def name(self, place: int) -> str:
    """Which record it is."""
    return f'{self.title} {self.places[place]}'

  def read(self, place: int) -> tuple[bytes, int]:
    """The file of a picture, and its class; 0 without classes.

    Raises:
      ValueError: if it should have a class and has none.
    """
    data, *label = self._parse(self.records[int(self.places[place])])
    return data, known_class(label[0]) if label else 0
