"""Feature networks at work: on the devices, with what is kept of them."""

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import numpy as np

from flowdistill.build.placed import Placed
from flowdistill.evaluators.signature import Arrays, Data, Reference, Row
from flowdistill.files.npz import write_npz
from flowdistill.training.progress import progress
from flowdistill.training.sharding import Layout
from flowdistill.workdir.shelf import Shelf

ROW = 'row'


@dataclasses.dataclass(frozen=True)
class Gauge:
  """Feature networks, and what is kept of samples; see evaluators/signature.py.

  Only the first host has files; it shares what it finds in them.

  Attributes:
    networks: on the devices.
    layout: of the devices.
    blocks: until the rows of an evaluation are written.
    statistics: for good.
    of: what all blocks depend on beside what their evaluator says; `code` is
      the revision of this package.
    validation: held-out examples whose own distance is a unit.
    examples: in place of the data.
    reference: statistics of a file in place of those of data.
  """

  networks: tuple[Placed, ...]
  layout: Layout
  blocks: Shelf
  statistics: Shelf
  of: Mapping[str, Any]
  validation: Data | None = None
  examples: Data | None = None
  reference: Reference | None = None

  def kept(
    self, about: Mapping[str, Any], make: Callable[[], Arrays]
  ) -> Arrays:
    """make(), or what was kept of this."""
    return self._on(self.blocks, {**about, 'run': self.of}, make)

  def lasting(
    self, about: Mapping[str, Any], make: Callable[[], Arrays]
  ) -> Arrays:
    """make(), or what an earlier evaluation made of this, with the same code.

    In a changed checkout the code is not known: nothing outlasts its rows.
    """
    code = self.of['code']
    if code.endswith('+'):
      return self.kept(about, make)
    return self._on(self.statistics, {**about, 'code': code}, make)

  def row(self, about: Mapping[str, Any], make: Callable[[], Row]) -> Row:
    """make(), or the row that was kept; its blocks are dropped then."""

    def made() -> Arrays:
      text = json.dumps(make(), default=lambda number: number.item())
      return {ROW: np.frombuffer(text.encode(), np.uint8)}

    row = json.loads(self.kept({ROW: about}, made)[ROW].tobytes())
    if jax.process_index() == 0:
      self.blocks.drop_of(about)
    return row

  @contextlib.contextmanager
  def watched(
    self, total: int, first: int, label: str
  ) -> Generator[Callable[[int], None]]:
    """Shows the progress of samples on the first host."""
    if jax.process_index():
      yield lambda n: None
      return
    done = first
    with progress(total, first, label, unit='samples') as bar:

      def advance(n: int) -> None:
        nonlocal done
        done += n
        bar.update(done)

      yield advance

  def _on(
    self,
    shelf: Shelf,
    about: Mapping[str, Any],
    make: Callable[[], Arrays],
  ) -> Arrays:
    first = jax.process_index() == 0
    found = shelf.get(about) if first else None
    if jax.process_count() > 1:
      found = shared(self.layout, found)
    if found is None:
      found = make()
      if first:
        shelf.put(about, found)
    return found


def shared(layout: Layout, arrays: Arrays | None) -> Arrays | None:
  """The arrays of the first host, on all hosts; None if it has none."""
  file = io.BytesIO()
  if arrays is not None:
    write_npz(file, arrays)
  size = int(layout.broadcast(len(file.getvalue())))
  if not size:
    return None
  data = np.frombuffer(file.getvalue().ljust(size, b'\0')[:size], np.uint8)
  with np.load(io.BytesIO(layout.broadcast_bytes(data).tobytes())) as found:
    return dict(found)
