"""Pictures in the records of a TensorFlow Datasets (TFDS) data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.datasets.decoders import Pixels
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.prepared import open_prepared, open_records
from flowdistill.datasets.split import split_indices
from flowdistill.datasets.tfds_features import (
  Feature,
  class_names,
  image_key,
  label_key,
  leaves,
  make_parse,
)
from flowdistill.flow.spec import LABEL, DataSpec

UNREAD = -1


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
  """Pictures of a TFDS data set that has been prepared.

  Args:
    builder: its name, such as 'mnist', with a config and a version where there
      are several: 'downsampled_imagenet/64x64', 'mnist:3.0.1'.
    data_dir: where it was prepared; None is $TFDS_DATA_DIR, or
      ~/tensorflow_datasets.
    examples: the TFDS split, in the syntax of TFDS: 'train', 'train+test',
      'train[:90%]'.
    image: key of the feature that is the picture; None takes the only one.
    label: key of the feature that is the class; None takes the only one.
    by_class: whether examples have classes.
    size: side of the square that every picture becomes, in pixels; None takes
      that of the data set, if all pictures are squares of one size.
    channels: 3 for RGB, 1 for grey; None takes those of the data set.
    resize: 'centre_crop', 'adm', 'stretch' or 'cut' (see `images.py`).
    split: 'all', 'train' or 'validation' of `examples`, by a hash of the
      index among them.
    validation: share of `examples` that is held out, in [0, 1].
    held_out: a file with the indices among `examples` that are held out, one
      per line, counted from 0, which replaces the hash.
    max_broken: largest share of unreadable pictures; above it, reading fails.

  Raises:
    ValueError: if it is not prepared, with the command that prepares it, or an
      option is out of range.
  """
  if label is not None and not by_class:
    raise ValueError(f'label = {label!r} needs by_class = True')
  prepared = open_prepared(builder, data_dir)
  features = leaves(prepared.info.features)
  image = image_key(features, image)
  label = label_key(features, label) if by_class else None
  records = open_records(prepared, examples)
  places = split_indices(
    len(records), split, validation=validation, held_out=held_out
  )
  size = side(features[image]) if size is None else size
  channels = depth(features[image]) if channels is None else channels
  classes = class_names(features[label]) if label else ()
  return Pictures(
    Records(records, features, image, label, places, f'{builder} {examples}'),
    Pixels(
      DataSpec.labelled((size, size, channels), len(classes), classes), resize
    ),
    max_broken=max_broken,
  )


def side(image: Feature) -> int:
  """The side of square pictures, in pixels.

  Raises:
    ValueError: if they are not squares of one size.
  """
  height, width, _ = image.shape
  if height is None or height != width:
    raise ValueError(
      f'size = None must be a number: pictures are {height} x {width}'
    )
  return height


def depth(image: Feature) -> int:
  """The channels of pictures: 1 if all are grey, else 3."""
  return 1 if image.shape[2] == 1 else 3


def known_label(label: Any) -> int:
  """A label as an integer; in TFDS, -1 is unknown, which is refused."""
  if label < 0:
    raise ValueError(
      f'its label {label} is not a class; by_class = False ignores labels'
    )
  return int(label)


class Records:
  """Some of the pictures in records (see `pictures.Encoded`).

  Args:
    records: serialised.
    features: of a record, by key.
    image, label: keys; label is None without classes.
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
    self._parse = make_parse(features, image, label)
    self._parse_label = make_parse(features, None, label)
    self._labels = (
      None if label is None else np.full(len(places), UNREAD, np.int32)
    )

  def __len__(self) -> int:
    return len(self.places)

  def name(self, place: int) -> str:
    """Title and index of a record."""
    return f'{self.title} {self.places[place]}'

  def read(self, place: int) -> tuple[bytes, dict[str, Any]]:
    """The file of a picture, and its label if there are classes.

    Raises:
      ValueError: if its label is unknown.
    """
    data, *label = self._parse(self.records[int(self.places[place])])
    return data, {LABEL: known_label(label[0])} if label else {}

  def conditions(self, places: np.ndarray) -> dict[str, np.ndarray]:
    """The labels at `places`, if there are classes; a record is read once.

    Raises:
      ValueError: if a label is unknown.
    """
    if self._labels is None:
      return {}
    for place in np.unique(places[self._labels[places] == UNREAD]).tolist():
      record = self.records[int(self.places[place])]
      self._labels[place] = known_label(self._parse_label(record)[0])
    return {LABEL: self._labels[places]}
