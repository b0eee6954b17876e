"""What the metrics cost for 50 000 samples; for docs/performance.md.

PYTHONPATH=. python tests/metrics/cost.py [METRIC ...]

Each is measured in a process of its own, with two sets of random features
[50 000, 2 048] in float32: 0.76 GiB.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.kernel import kernel_distance
from flowdistill.metrics.moments import moments
from flowdistill.metrics.precision_recall import (
  density_coverage,
  precision_recall,
)


def frechet(samples, reference):
  """Of moments that exist, of which those of the reference have full rank."""
  del samples
  a, b = moments(reference[: 2 * reference.shape[1]]), moments(reference)
  return lambda: frechet_distance(a, b)


METRICS = {
  'moments of one set': lambda a, b: lambda: moments(a),
  'frechet': frechet,
  'kernel, 100 subsets': lambda a, b: lambda: kernel_distance(a, b),
  'precision_recall': lambda a, b: lambda: precision_recall(a, b),
  'density_coverage': lambda a, b: lambda: density_coverage(a, b),
  'kernel, all pairs': lambda a, b: lambda: kernel_distance(a, b, subsets=None),
}


def features(seed, n, d):
  rng, x = np.random.default_rng(seed), np.empty((n, d), np.float32)
  for row in x:
    rng.standard_normal(out=row, dtype=np.float32)
  return x


def measure(name, n, d):
  call = METRICS[name](features(0, n, d), features(1, n, d))
  wall, cpu = time.perf_counter(), time.process_time()
  call()
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'| {name} | {wall:.1f} s | {cpu:.1f} s | {peak:.2f} GiB |', flush=True)


if __name__ == '__main__':
  parser = argparse.ArgumentParser()
  parser.add_argument('metric', nargs='*', choices=[*METRICS, []])
  parser.add_argument('--samples', type=int, default=50_000)
  parser.add_argument('--length', type=int, default=2048)
  parser.add_argument('--here', action='store_true')
  given = parser.parse_args()
  for each in given.metric or METRICS:
    if given.here:
      measure(each, given.samples, given.length)
    else:
      options = [f'--samples={given.samples}', f'--length={given.length}']
      command = [sys.executable, __file__, each, '--here', *options]
      subprocess.run(command, check=True)
