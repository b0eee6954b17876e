"""A data set that is opened when the first example is read."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flowdistill.build.prompts import encode_prompts
from flowdistill.build.texts import read_text
from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned import encoded_as
from flowdistill.datasets.files import stamp_of
from flowdistill.datasets.stream import Stream, length_of
from flowdistill.files.paths import expand
from flowdistill.flow.spec import DataSpec
from flowdistill.training.lengths import Length

OF_CAPTIONS = ('vocabulary', 'rare')  # what an encoder takes from captions


@dataclasses.dataclass(frozen=True)
class DataRecord:
  """What a run records of its data, so that later jobs need not open them.

  Attributes:
    spec: of the examples.
    size: their number; None for a stream of unknown length.
    stream: whether they can only be read in order, not by index.
    pictures: the shape of the images whose latents they are; None if they are
      not encoded.
  """

  spec: DataSpec
  size: int | None
  stream: bool = False
  pictures: tuple[int, ...] | None = None

  @property
  def images(self) -> DataSpec:
    """The spec of the examples as images."""
    return dataclasses.replace(
      self.spec, shape=self.pictures or self.spec.shape
    )

  def to_json(self) -> dict[str, Any]:
    """The record as plain data for JSON; the inverse of `of`."""
    return dataclasses.asdict(self)

  @classmethod
  def of(cls, record: Mapping[str, Any]) -> 'DataRecord':
    """The record from the result of `to_json`."""
    pictures = record.get('pictures')
    return cls(
      DataSpec.of(record['spec']),
      record['size'],
      record['stream'],
      None if pictures is None else tuple(pictures),
    )


@dataclasses.dataclass(frozen=True)
class Expected:
  """Latents that an earlier stage of the run will have written.

  Attributes:
    record: of them.
    about: what their manifest will say of the space.
  """

  record: DataRecord
  about: Callable[[], Mapping[str, Any]]


class Data:
  """Examples by index, from a source that is opened once, on first use.

  With the `record` of a run it is opened only when examples are read.

  Args:
    open_source: opens it.
    record: of the run, None if it is to be taken from the source.
    config: the resolved config of the data set, None if it has none.
    expected: what the source will be, if a stage of this run makes it.
  """

  def __init__(
    self,
    open_source: Callable[[], Any],
    record: DataRecord | None = None,
    config: Mapping[str, Any] | None = None,
    expected: Expected | None = None,
  ):
    self._open, self._record, self._config = open_source, record, config
    self._expected = expected

  @functools.cached_property
  def source(self) -> Any:
    """The source itself, with the vocabulary of the record."""
    source, record = self._open(), self._record
    text = None if record is None else record.spec.text
    return source if text is None else encoded_as(source, text, read_text)

  @functools.cached_property
  def record(self) -> DataRecord:
    """The record of the run if there is one, else that of the source."""
    return self.actual if self._record is None else self._record

  @property
  def actual(self) -> DataRecord:
    """The record of the source itself, or what it will be."""
    if self._expected is not None:
      return self._expected.record
    source, stream = self.source, isinstance(self.source, Stream)
    pictures = getattr(source, 'pictures', None)
    return DataRecord(source.spec, length_of(source), stream, pictures)

  @property
  def manifest(self) -> Mapping[str, Any]:
    """What latents are of, or will be."""
    if self._expected is not None:
      return self._expected.about()
    return self.source.manifest

  @property
  def is_recorded(self) -> bool:
    """Whether a run has recorded them, so that they need not be opened."""
    return self._record is not None

  def encoded_as(self, other: 'Data') -> 'Data':
    """The same examples, their captions encoded as those of other data.

    A vocabulary is that of the training data, also for examples to compare
    with.

    Raises:
      ValueError: if the encoders have different options.
    """
    ours, theirs = self.spec.text, other.spec.text
    if other is self or ours is theirs is None:
      return self
    options = [
      {k: v for k, v in (text or {}).items() if k not in OF_CAPTIONS}
      for text in (ours, theirs)
    ]
    if ours is None or theirs is None or options[0] != options[1]:
      raise ValueError(
        f'text must be that of the data that are trained on, {options[1]}, and '
        f'is {options[0]}'
      )
    record = dataclasses.replace(
      self.record, spec=dataclasses.replace(other.spec, shape=self.spec.shape)
    )
    return Data(lambda: self.source, record, self._config)

  def decoded(self, decode: Callable[[Any], np.ndarray]) -> 'Data':
    """The images of latents, without their noise; images are unchanged."""
    if self.record.pictures is None:
      return self
    spec = self.record.images
    record = dataclasses.replace(self.record, spec=spec, pictures=None)
    return Data(
      lambda: Decoded(self.source, spec, decode), record, self._config
    )

  @property
  def spec(self) -> DataSpec:
    """The spec of the examples."""
    return self.record.spec

  @property
  def buckets(self) -> list[tuple[int, ...]]:
    """The shapes of pictures in batches of training; [] if all are alike.

    They are those of the config: no picture is looked at.
    """
    config = self._config or {}
    if config.get('buckets') is None:
      return []
    rule, channels = Buckets(**config['buckets']), self.spec.shape[-1]
    return [(*shape, channels) for shape in rule.shapes(config['size'])]

  def __len__(self) -> int:
    if self.record.stream:
      raise ValueError('this data set is a stream, which has no index')
    return self.record.size or len(self.source)

  def __getitem__(self, index: Any) -> Mapping[str, np.ndarray]:
    return self.source[index]

  def conditions(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """The conditions of examples, without their images."""
    return self.source.conditions(index) if self.spec.cond else {}

  @property
  def mirrors(self) -> bool:
    """Whether mirrored pictures fit the captions; True for recorded data."""
    return self.is_recorded or getattr(self.source, 'mirrors', True)

  @property
  def figures(self) -> np.ndarray | None:
    """The number of the figure that each example shows, if known."""
    return getattr(self.source, 'figures', None)

  def captions(self, index: np.ndarray) -> list[str] | None:
    """The captions of examples, None if the data have none."""
    known = getattr(self.source, 'captions', None)
    return None if known is None else [known[i] for i in index]

  def prompts(self, index: np.ndarray) -> list[Any] | None:
    """Captions with what pictures of them must show, None if unknown."""
    known = getattr(self.source, 'prompts', None)
    return None if known is None else [known[i] for i in index]

  @property
  def detect(self) -> Callable[[np.ndarray], list[Any]] | None:
    """Finds in a picture what prompts ask for, None if nothing does."""
    return getattr(self.source, 'detect', None)

  def encode(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """The conditions of prompts; see `encode_prompts`."""
    return encode_prompts(self.spec, prompts)

  @property
  def title(self) -> str:
    """'emoji train', for tables."""
    config = self._config or {'name': 'examples'}
    part = config.get('split', 'all')
    return config['name'] if part == 'all' else f'{config["name"]} {part}'

  @property
  def identity(self) -> dict[str, Any] | None:
    """What says whether two sources have the same examples.

    The config, their number, and (modification time, size) of all files that
    are known. None if there is no config.
    """
    if self._config is None:
      return None
    texts = [v for v in self._config.values() if isinstance(v, str) and v]
    files = {path: stamp_of(expand(path, path)) for path in texts}
    listed = getattr(getattr(self.source, 'files', None), 'stamps', {})
    stamps = {str(path): stamp for path, stamp in {**files, **listed}.items()}
    return {
      'config': dict(self._config),
      'examples': len(self),
      'files': {name: s for name, s in sorted(stamps.items()) if any(s)},
    }

  def to_steps(self, length: Length, batch_size: int) -> int:
    """A length in steps of `batch_size` examples.

    Raises:
      ValueError: for epochs of a stream of unknown length.
    """
    size = self.record.size
    if size is None and length.epochs is not None:
      if not self.record.stream:  # declared by the config, and not opened yet
        return length.to_steps(batch_size, len(self))
      raise ValueError(
        f'{length} needs the number of examples, which is unknown for this '
        'stream: set num_samples of the data set, or give the length in steps '
        'or images'
      )
    return length.to_steps(batch_size, size or 1)


@dataclasses.dataclass(frozen=True)
class Decoded:
  """A source of latents, as a source of images.

  Attributes:
    latents: the source.
    spec: of the images.
    decode: latents [b, ...] -> images.
  """

  latents: Any
  spec: DataSpec
  decode: Callable[[Any], np.ndarray]

  @property
  def captions(self) -> Any:
    """Those of the latents."""
    return self.latents.captions

  def __len__(self) -> int:
    return len(self.latents)

  def __getitem__(self, index: Any) -> Mapping[str, np.ndarray]:
    rows = self.latents[np.atleast_1d(index)]
    x0 = np.asarray(self.decode(rows['x0']))
    return {**rows, 'x0': x0} if np.ndim(index) else {**rows, 'x0': x0[0]}

  def conditions(self, index: Any) -> dict[str, np.ndarray]:
    """Those of the latents."""
    return self.latents.conditions(index)
