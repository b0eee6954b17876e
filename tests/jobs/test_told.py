"""Text from captions to pictures: training, pairs, prompts, and what is kept.

The data are digits with captions; see told.py.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from jobs import tiny
from PIL import Image

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.pairs import open_store
from flowdistill.datasets.texts import read_encoder
from flowdistill.evaluators.sheets import ABOUT

CONFIG = pathlib.Path(__file__).with_name('told.py')
OTHER = "{'name': 'words', 'least': 170}"  # only 'the' and 'digit' are as many
EMOJI = f'{tiny.CONFIGS / "t2i" / "emoji.py"}:runlocal'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of all four stages."""
  workdir = tmp_path_factory.mktemp('told')
  tiny.train_here(workdir, CONFIG)
  return workdir


def recorded(workdir, stage):
  record = json.loads((workdir / stage / 'config.json').read_text())
  return record['data']['spec']['text']


@pytest.mark.slow
def test_all_stages_have_one_vocabulary(run):
  text = recorded(run, 'flow')
  assert {'the', 'digit', 'three'} < {*text['vocabulary']}
  for stage in ('distil', 'reflow'):
    assert recorded(run, stage) == text
  pairs = open_store(run / 'pairs' / 'pairs')
  assert pairs.spec.text == text
  encoder = read_encoder(text)
  train = flowdistill.load(run, stage='flow').source
  captions = train.captions(np.arange(20))
  for name, rows in encoder.encode(captions).items():
    np.testing.assert_array_equal(pairs[np.arange(20)][name], rows)


@pytest.mark.slow
def test_prompts_are_drawn_at_an_evaluation(run):
  (path,) = (run / 'distil' / 'sheets').glob('*.png')
  with Image.open(path) as image:
    about = json.loads(image.text[ABOUT])
  assert about['prompts'] == ['the digit three', 'the digit nine']
  assert (run / 'distil' / 'samples' / 'student_of_prompts.png').is_file()
  rows = json.loads((run / 'distil' / 'results.json').read_text())
  assert np.isfinite(rows[0]['flow_loss'])


@pytest.mark.slow
def test_prompts_of_a_file_are_drawn_by_another_process(run, tmp_path):
  file = tmp_path / 'prompts.txt'
  file.write_text('the digit three\nnine\n')
  command = [sys.executable, '-m', 'flowdistill.main', '--job=generate']
  command += [f'--workdir={run}', '--stage=distil', '--nfe=1', '--label=4']
  command += [f'--prompts={file}', f'--out={tmp_path / "out"}', '--write=npz']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / 'out' / 'samples.npz') as saved:
    x0 = saved['x0']
  prompts = ['the digit three', 'nine']
  here = flowdistill.load(run, stage='distil')
  expected = here.sample(prompts=prompts, nfe=1, label=4)
  np.testing.assert_allclose(x0, expected, atol=1e-5)
  (mark,) = (
    json.loads(path.read_text())
    for path in (tmp_path / 'out').iterdir()
    if path.suffix == '.json'
  )
  assert mark['prompts'] == prompts


@pytest.mark.slow
def test_other_words_are_refused_where_weights_are_shared(run, tmp_path):
  changed = [
    f'dataset.text={OTHER}',
    f'stages.distil.evaluation.dataset.text={OTHER}',
  ]
  flow = f"'{run / 'flow'}'"
  stages = tiny.stages(
    CONFIG,
    *changed,
    f'stages.distil.init_from={flow}',
    f'stages.distil.frozen.teacher={flow}',
  )
  with pytest.raises(ConfigError, match='knows captions that were encoded by'):
    tiny.check_here({'distil': stages['distil']}, tmp_path)


def test_examples_to_compare_with_must_have_the_same_text():
  for text in ('bytes', 'none'):
    change = f'stages.distil.evaluation.dataset.text={text}'
    stages = tiny.stages(CONFIG, change)
    with pytest.raises(
      ConfigError,
      match=r'^config\.stages\.distil\.evaluation\.dataset\.text must be that',
    ):
      tiny.check_here(stages, pathlib.Path('nowhere'))


def test_held_out_words_are_those_of_the_training(tmp_path):
  distil = tiny.check_here(tiny.stages(CONFIG), tmp_path)['distil']
  assert distil.measured is not distil.data
  assert distil.measured.spec.text == distil.data.spec.text
  encoder = read_encoder(distil.data.spec.text)
  captions = distil.measured.captions(np.arange(5))
  np.testing.assert_array_equal(
    distil.measured.conditions(np.arange(5))['tokens'],
    encoder.encode(captions)['tokens'],
  )


def test_a_network_that_takes_no_text_says_so():
  with pytest.raises(ConfigError, match="adm takes no condition 'tokens'"):
    tiny.check_here(tiny.stages(CONFIG, 'network=adm'), pathlib.Path('nowhere'))


def test_prompts_of_an_evaluator_are_checked_before_training():
  prompts = "stages.distil.evaluators.pictures.prompts=['a digit']"
  with pytest.raises(ConfigError, match="no caption of the training had: 'a'"):
    tiny.check_here(tiny.stages(CONFIG, prompts), pathlib.Path('nowhere'))


def test_emoji_by_name_resolve_and_have_text_at_toy_size(tmp_path):
  blueprints = tiny.check_here(tiny.stages(EMOJI), tmp_path)
  assert {'tokens', 'mask'} < {*blueprints['distil'].sees.cond}
  whole = tiny.stages(EMOJI.removesuffix(':runlocal'))
  assert whole['distil']['evaluators']['prompts']['prompts']
