"""Data sets of TFDS that prepare themselves, for tests.

Pictures that are files already are prepared without TensorFlow.
"""

import io
from typing import ClassVar

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets import features

COUNTS = {'train': 20, 'test': 6}
SIDES = (6, 8)  # height, width


def pixels(split, k):
  seed = (len(split), k)
  return np.random.default_rng(seed).integers(0, 256, (*SIDES, 3), np.uint8)


def encoded(array):
  file = io.BytesIO()
  PIL.Image.fromarray(array).save(file, 'PNG')
  file.seek(0)
  return file


class Tiny(tfds.core.GeneratorBasedBuilder):
  """What they share."""

  VERSION = tfds.core.Version('1.0.0')
  FOUND: ClassVar[dict] = {}

  def _info(self):
    found = features.FeaturesDict(self.FOUND)
    return tfds.core.DatasetInfo(builder=self, features=found)

  def _split_generators(self, manager):
    return {
      split: self._generate_examples(split, count)
      for split, count in COUNTS.items()
    }

  def _generate_examples(self, split, count):
    for k in range(count):
      yield k, self.example(split, k)


class TinyShapes(Tiny):
  """Pictures with one class, as `mnist` and `imagenet2012`."""

  FOUND: ClassVar = {
    'image': features.Image(shape=(*SIDES, 3)),
    'label': features.ClassLabel(names=['circle', 'square', 'star']),
    'number': np.int64,
  }

  def example(self, split, k):
    image = encoded(pixels(split, k))
    return {'image': image, 'label': k % 3, 'number': k}


class TinyFaces(Tiny):
  """Pictures with attributes and no class, as `celeb_a`."""

  FOUND: ClassVar = {
    'image': features.Image(shape=(None, None, 3)),
    'attributes': {'happy': np.bool_, 'tall': np.bool_},
  }

  def example(self, split, k):
    flags = {'happy': k % 2 == 1, 'tall': k % 4 == 0}
    return {'image': encoded(pixels(split, k)), 'attributes': flags}


class TinyPairs(Tiny):
  """Two pictures, two classes, and small grey squares."""

  FOUND: ClassVar = {
    'left': features.Image(shape=(8, 8, 1)),
    'right': features.Image(shape=(8, 8, 1)),
    'colour': features.ClassLabel(num_classes=5),
    'form': features.ClassLabel(num_classes=4),
  }

  def example(self, split, k):
    grey = np.full((8, 8), 10 * k, np.uint8)
    return {
      'left': encoded(grey),
      'right': encoded(255 - grey),
      'colour': k % 5,
      'form': -1 if split == 'test' else k % 4,
    }


class Drawn(TinyShapes):
  """Pictures that are arrays, which TensorFlow has to encode."""

  FOUND: ClassVar = {
    'image': features.Image(shape=(6, 6, 1)),
    'label': features.ClassLabel(num_classes=3),
  }

  def example(self, split, k):
    return {'image': np.full((6, 6, 1), k, np.uint8), 'label': k % 3}


def prepare(data_dir):
  """Those that need no TensorFlow."""
  for builder in (TinyShapes, TinyFaces, TinyPairs):
    made = builder(data_dir=data_dir, file_format='array_record')
    made.download_and_prepare()
