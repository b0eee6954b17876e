"""configs/emoji.py on a font that is made here."""

import numpy as np
import pytest
from datasets import tiny_font
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.word_vectors import WordVectors

CONFIG = f'{tiny.CONFIGS / "emoji.py"}:runlocal'
EVALUATORS = 'stages.distil.evaluators'


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  """An override that names the font, and asks for captions."""
  folder = tmp_path_factory.mktemp('font')
  (folder / 'font.ttf').write_bytes(tiny_font.font())
  (folder / 'names.txt').write_text(tiny_font.NAMES)
  files = {'path': f'{folder}/font.ttf', 'names': f'{folder}/names.txt'}
  text = {'name': 'word_vectors', 'length': 4}
  return f'dataset={ {"name": "emoji", "text": text, **files}!r}'


def test_it_builds_with_captions_and_figures(dataset, tmp_path):
  by_figure = f'{EVALUATORS}.few_step.by_figure=True'
  stages = tiny.stages(CONFIG, dataset, by_figure)
  blueprints = tiny.check_here(stages, tmp_path)
  assert set(blueprints['distil'].data.spec.cond) == {'label', 'text', 'mask'}
  whole = tiny.stages(CONFIG.removesuffix(':runlocal'), dataset)
  assert whole['distil']['evaluators']['few_step']['by_figure']
  with pytest.raises(ConfigError, match='by_figure = True needs data in which'):
    tiny.check_here(tiny.stages(CONFIG, by_figure), tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ('dataset.path=none.ttf', "dataset.path = 'none.ttf' is not there"),
    ('dataset.names=none', "dataset.classes = 'group' needs names"),
    (
      'dataset.background=alpha',
      r'shape = \(32, 32, 4\) must be \[h, w, 1 or 3',
    ),
    ('dataset.size=24', 'evaluation.features: .* 32 x 32'),
    ('dataset.sise=24', "'sise'.*'size'"),
  ],
)
def test_what_cannot_be_trained_is_said_before(
  dataset, tmp_path, change, message
):
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(CONFIG, dataset, change), tmp_path)


@pytest.mark.slow
def test_it_trains_is_measured_and_draws_a_caption(dataset, tmp_path):
  rows = tiny.train_here(
    tmp_path, CONFIG, dataset, f'{EVALUATORS}.few_step.by_figure=True'
  )
  assert {row['model'] for row in rows} == {'teacher', 'student'}
  assert all(np.isfinite(row['frechet_emoji']) for row in rows)
  assert all(0 <= row['memorised'] <= 1 for row in rows)
  assert not any('accuracy' in row for row in rows)  # four groups of ten
  encoded = WordVectors(4).encode(['waving hand: dark'])
  cond = {k: v[0] for k, v in encoded.items()}
  run = flowdistill.load(tmp_path, stage='distil')
  x = run.sample(2, nfe=1, cond={**cond, 'label': 0})
  assert x.shape == (2, 32, 32, 3)
