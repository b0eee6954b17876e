"""Pictures with conditions that are no labels."""

import io

import numpy as np
import PIL.Image

from flowdistill.datasets.decoders import Pixels
from flowdistill.datasets.images import to_unit
from flowdistill.datasets.pictures import Pictures
from flowdistill.flow.spec import Condition, DataSpec

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 4, 4, 3), np.uint8)
TEXT = RNG.normal(size=(5, 7, 2)).astype(np.float32)
MASK = RNG.integers(0, 2, (5, 7)).astype(bool)
SPEC = DataSpec(
  (4, 4, 3), {'text': Condition((7, 2)), 'mask': Condition((7,), 'bool')}
)


class Captioned:
  """Files with embedded captions; the first is damaged."""

  def __len__(self):
    return len(PIXELS)

  def name(self, place):
    return str(place)

  def read(self, place):
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS[place]).save(file, 'PNG')
    return file.getvalue() if place else b'', self.conditions(place)

  def conditions(self, places):
    return {'text': TEXT[places], 'mask': MASK[places]}


def test_every_picture_comes_with_its_conditions():
  source = Pictures(Captioned(), Pixels(SPEC, 'cut'), max_broken=0.2)
  index = np.array([[3, 0], [1, 4]])
  places = np.array([[3, 1], [1, 4]])  # the next one replaces the first
  batch = source[index]
  assert batch.keys() == {'x0', 'text', 'mask'}
  np.testing.assert_array_equal(batch['x0'], to_unit(PIXELS[places]))
  np.testing.assert_array_equal(batch['text'], TEXT[places])
  np.testing.assert_array_equal(batch['mask'], MASK[places])
  assert {k: v.dtype for k, v in batch.items()} == {
    'x0': np.float32,
    'text': np.float32,
    'mask': bool,
  }
  assert source[2]['text'].shape == (7, 2)


def test_conditions_alone_decode_nothing(monkeypatch):
  encoded = Captioned()
  monkeypatch.setattr(encoded, 'read', None)
  source = Pictures(encoded, Pixels(SPEC, 'cut'), max_broken=0.0)
  cond = source.conditions(np.array([3, 0]))
  np.testing.assert_array_equal(cond['text'], TEXT[[3, 0]])
  np.testing.assert_array_equal(cond['mask'], MASK[[3, 0]])
