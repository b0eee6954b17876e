"""What the checksums of a checkpoint of 200 MB cost; for docs/workdir.md.

PYTHONPATH=. python tests/files/cost.py
"""

import pathlib
import statistics
import tempfile
import time

import jax

from flowdistill.files.checksums import check_checksums, write_checksums
from flowdistill.training.checkpoint import ITEM, Checkpoints, restore

TURNS = 5


def timed(name, act, turns=TURNS):
  """Prints the median of the seconds that act(0), act(1), ... take."""
  seconds = []
  for turn in range(turns):
    begun = time.perf_counter()
    act(turn)
    seconds.append(time.perf_counter() - begun)
  print(f'{name}: {statistics.median(seconds):.2f} s')


def main():
  keys = jax.random.split(jax.random.key(0), 10)
  tree = {
    f'{i}': jax.random.normal(k, (5_000_000,)) for i, k in enumerate(keys)
  }
  abstract = jax.eval_shape(lambda: tree)
  jax.block_until_ready(tree)
  with tempfile.TemporaryDirectory() as folder:
    with Checkpoints(folder, keep=2 * TURNS) as saved:

      def save(step):
        saved.save(step, tree)
        saved.wait()

      timed('the first save, which is read back', save, turns=1)
      timed('a save', lambda turn: save(turn + 1))
    path = pathlib.Path(folder, '1')
    timed('of it the checksums', lambda _: write_checksums(path, ITEM))
    timed(
      'a restore',
      lambda _: jax.block_until_ready(restore(folder, abstract, 1)),
    )
    timed('of it the checksums', lambda _: check_checksums(path, (0, 1)))


if __name__ == '__main__':
  main()
