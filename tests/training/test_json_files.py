"""JSON files, and the versions of the software."""

import json
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from flowdistill.training.json_files import write_json


def test_json_is_strict_and_indented(tmp_path):
  value = {
    'a': [np.float32(0.5), jnp.int32(3), np.bool_(True)],
    'b': (float('nan'), np.inf, -jnp.inf),
    'c': {1: pathlib.Path('x') / 'y', 'none': None},
  }
  path = tmp_path / 'config.json'
  write_json(path, value)
  assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
    'a': [0.5, 3, True],
    'b': ['nan', 'inf', '-inf'],
    'c': {'1': os.path.join('x', 'y'), 'none': None},
  }
  assert path.read_text().startswith('{\n  "a": [\n    0.5,')


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'results.json'
  write_json(path, [1])
  with pytest.raises(TypeError, match='not JSON serializable'):
    write_json(path, [2, object()])
  assert json.loads(path.read_text()) == [1]
  write_json(path, [3])
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']
