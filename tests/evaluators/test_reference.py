"""The reference: real examples, images, or the statistics of a file."""

import dataclasses

import numpy as np
from evaluators.fakes import Pixels, digits

from flowdistill.evaluators.reference import blocks, reference
from flowdistill.flow.pixels import Digest, to_uint8
from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.moments import moments

SOURCE = digits()
X0 = SOURCE.arrays['x0']
MOMENTS = {'pixels': ['moments']}


class Counting(Pixels):
  """It counts the examples whose features are taken, and keeps everything."""

  def __init__(self, source):
    super().__init__(source)
    self.seen, self.shelf = 0, {}

  def __call__(self, x):
    self.seen += len(x)
    return super().__call__(x)

  def kept(self, about, make):
    return self.shelf.setdefault(repr(about), None) or self.put(about, make())

  def put(self, about, arrays):
    self.shelf[repr(about)] = arrays
    return arrays

  lasting = kept


def test_moments_are_those_of_the_examples_in_any_blocks():
  found = reference(Pixels(SOURCE), SOURCE, 1500, MOMENTS)
  x = X0[np.arange(1500) * len(X0) // 1500]
  expected = moments(Pixels(SOURCE)(x)['features'])
  ours = found.summaries['pixels'].moments('features')
  assert frechet_distance(ours, expected) < 1e-10
  assert ours.count == 1500
  assert found.about['reference'] == 'known, 1500'


def test_the_hash_is_that_of_the_pixels():
  found = reference(Pixels(SOURCE), SOURCE, 10**6, MOMENTS).about
  digest = Digest(len(X0), (8, 8, 1))
  digest.update(to_uint8(X0[:1000]))
  digest.update(X0[1000:])
  assert found['reference_sha256'] == str(digest)
  other = dataclasses.replace(SOURCE, arrays={'x0': X0[::-1]})
  again = reference(Pixels(SOURCE), other, 10**6, MOMENTS).about
  assert again['reference_sha256'] != str(digest)


def test_moments_of_unknown_data_are_taken_again():
  gauge = Counting(SOURCE)
  for _ in range(2):
    reference(gauge, SOURCE, 500, MOMENTS)
  assert gauge.seen == 1000


def test_moments_are_taken_once():
  gauge, source = Counting(SOURCE), digits()
  source.identity = {'config': 'digits'}
  first = reference(gauge, source, 500, MOMENTS)
  assert gauge.seen == 500
  again = reference(gauge, source, 500, MOMENTS)
  assert gauge.seen == 500
  assert again.about == first.about
  reference(gauge, source, 600, MOMENTS)
  assert gauge.seen == 1100


def test_images_take_the_place_of_the_data():
  gauge = Pixels(SOURCE)
  gauge.examples = dataclasses.replace(SOURCE, arrays={'x0': X0[:300]})
  found = reference(gauge, SOURCE, 10**6, MOMENTS)
  assert found.about['reference'] == 'known, 300'


def test_blocks_are_consecutive():
  found = [*blocks(7, 2500)]
  np.testing.assert_array_equal(np.concatenate(found), 7 + np.arange(2500))
  assert len(found) == 3
