"""How often right drawings of shapes are judged right, with noise on them.

`python tests/datasets/shape_accuracy.py` prints the table of docs/data.md.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from datasets.test_shape_detection import passes, right

N = 600
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4)

if __name__ == '__main__':
  for size in (32, 64):
    shares = [np.mean([right(i, size, sd) for i in range(N)]) for sd in NOISES]
    wrong = np.mean([not passes(i, size) for i in range(N)])
    cells = ' | '.join(f'{share:.3f}' for share in shares)
    print(f'| {size} | {cells} | {wrong:.3f} |', flush=True)
