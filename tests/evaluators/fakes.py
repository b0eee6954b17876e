"""Models and features without a network, for the tests of evaluators."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from flowdistill.flow.spec import DataSpec


@dataclasses.dataclass
class Data:
  """A source: the digits, or a cloud of points."""

  spec: DataSpec
  arrays: dict[str, np.ndarray]
  figures: np.ndarray | None = None
  words: list[str] | None = None
  title = 'known'
  detect = None
  identity = None

  def captions(self, index):
    return None if self.words is None else [self.words[i] for i in index]

  def prompts(self, index):
    return None

  def encode(self, prompts):
    return {'text': np.asarray([[len(each)] for each in prompts], np.float32)}

  def conditions(self, index):
    return {name: self.arrays[name][index] for name in self.spec.cond}

  def __len__(self):
    return len(self.arrays['x0'])

  def __getitem__(self, index):
    return {name: array[index] for name, array in self.arrays.items()}


def digits():
  bunch = load_digits()
  x0 = (bunch.images / 8 - 1).astype(np.float32)[..., None]
  label = bunch.target.astype(np.int32)
  return Data(DataSpec.labelled((8, 8, 1), 10), {'x0': x0, 'label': label})


def points(n=400):
  x0 = np.random.default_rng(1).standard_normal((n, 2)).astype(np.float32)
  return Data(DataSpec((2,)), {'x0': x0})


class Pixels:
  """Pixels as features; for a logit, minus the distance to a class's mean.

  It is also the gauge of this network alone, which keeps nothing.
  """

  name = 'pixels'
  about: ClassVar = {}
  kinds = 'features', 'logits'
  validation = reference = examples = None

  def __init__(self, source):
    x, label = source.arrays['x0'], source.arrays['label']
    means = [x[label == k].mean(axis=0) for k in range(10)]
    self.means = np.stack(means).reshape(10, -1)

  @property
  def networks(self):
    return (self,)

  def __call__(self, x):
    flat = x.reshape(len(x), -1)
    far = np.linalg.norm(flat[:, None] - self.means, axis=-1)
    return {'features': flat, 'logits': -far}

  def kept(self, about, make):
    return make()

  lasting = row = kept

  @contextlib.contextmanager
  def watched(self, total, first, label):
    yield lambda n: None


class Samples(NamedTuple):
  """What a model answers: examples, and the network calls of each."""

  x: np.ndarray
  nfe: np.ndarray


class InPixels:
  """What a model of the pictures themselves makes of a space."""

  defaults: ClassVar[dict[str, Any]] = {}

  def defaults_of(self, sampler):
    return self.defaults

  def to_space(self, x0):
    return x0

  def to_pictures(self, x):
    return x


@dataclasses.dataclass
class Replay(InPixels):
  """Draws the data over and over, plus noise that falls with the NFE.

  Without an NFE it is adaptive: its examples take 2, 3, 2, 3, ... calls.
  """

  x0: np.ndarray
  noise: float = 0.0
  calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def __call__(self, n, *, sampler, nfe, cond, seed, first=0, **options):
    call = {'n': n, 'sampler': sampler, 'nfe': nfe, 'cond': cond, 'seed': seed}
    self.calls.append(call | ({'options': options} if options else {}))
    nfes = 2 + np.arange(n) % 2 if nfe is None else np.full(n, nfe)
    x0 = self.x0[(first + np.arange(n)) % len(self.x0)]
    shape = first + n, *x0.shape[1:]
    noise = np.random.default_rng(seed).standard_normal(shape)[first:]
    x = x0 + self.noise / nfes[0] * noise
    return Samples(x.astype(np.float32), nfes)


@dataclasses.dataclass
class Flow(InPixels):
  """A network u(x_t, t, s, cond) that is a function; records its calls."""

  u: Callable[..., Any]
  shape: tuple[int, ...] = (2,)
  asked: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def __call__(self, n, *, sampler, nfe, cond, seed, first=0):
    x = np.random.default_rng(seed).standard_normal((n, *self.shape))
    for t, s in itertools.pairwise(np.linspace(1, 0, nfe + 1)):
      end = {'flow_map': s, 'euler': t}[sampler]
      x = x + (s - t) * self.ask(x, np.full(n, t), np.full(n, end), cond)
    return Samples(x, np.full(n, nfe))

  def ask(self, x_t, t, s, cond):
    self.asked.append({'x_t': x_t, 't': t, 's': s, 'cond': cond})
    return np.asarray(self.u(np.asarray(x_t, t.dtype), t, s, cond))
