"""quality, as its documentation shows it."""

import ast
import pathlib
import re

import pytest
from jobs import tiny

DOCUMENT = pathlib.Path(__file__).parents[2] / 'docs' / 'evaluation.md'


@pytest.mark.slow
def test_the_config_of_the_documentation_measures(tmp_path):
  text = re.search(r'```python\n(.*?)```', DOCUMENT.read_text(), re.DOTALL)[1]
  evaluators = ast.literal_eval(f'{{{text}}}')['evaluators']
  evaluators['quality'] |= {'samples': 40, 'sets': 2}
  config = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'
  given = f'stages.distil.evaluators={evaluators}'
  rows = tiny.train_here(tmp_path, config, given)
  measured = [row for row in rows if 'recall_digits' in row]
  assert [row['nfe'] for row in measured] == [1, 4]
  for row in measured:
    assert (row['samples'], row['sets']) == (40, 2)
    assert row['frechet_digits_spread'] > 0
    assert 0 <= row['precision_digits'] <= 1
