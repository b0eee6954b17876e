"""Conditions that are no labels: text-like vectors with a mask, end to end."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jobs import elastic, hosts, tiny
from jobs.captioned import SPEC, WORDS, captioned

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.datasets.pairs import open_store
from flowdistill.stages.assembly import batches

CONFIG = pathlib.Path(__file__).with_name('captioned.py')


@pytest.fixture(scope='module', autouse=True)
def tables():
  with tiny.own_tables():
    yield


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of all four stages."""
  workdir = tmp_path_factory.mktemp('captioned')
  tiny.train_here(workdir, CONFIG)
  return workdir


def losses(workdir, stage):
  text = (workdir / stage / 'metrics.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  return {row['step']: row['loss'] for row in rows if 'loss' in row}


@pytest.mark.slow
def test_every_stage_learns_with_conditions_dropped(run):
  for stage in ('flow', 'distil', 'reflow'):
    assert len(losses(run, stage)) == 8
    assert np.isfinite([*losses(run, stage).values()]).all()
  rows = json.loads((run / 'distil' / 'results.json').read_text())
  assert np.isfinite(rows[0]['flow_loss'])
  assert list((run / 'distil' / 'samples').glob('*.png'))


@pytest.mark.slow
def test_pairs_have_the_text_that_they_were_made_of(run):
  """Pair i has the caption of example i; reflow's batches have theirs."""
  pairs, data = open_store(run / 'pairs' / 'pairs'), captioned(size=64)
  assert pairs.spec == SPEC
  rows = pairs[np.arange(20)]
  for name in SPEC.cond:
    np.testing.assert_array_equal(rows[name], data[np.arange(20)][name])
  flow = flowdistill.load(run, stage='flow')
  drawn = flow.sample(20, sampler='heun', nfe=3)
  np.testing.assert_allclose(rows['x0'], drawn, atol=1e-5)
  assembly = tiny.assembled(tiny.stages(CONFIG)['reflow'], run / 'again', run)
  batch = next(batches(assembly, 0))
  assert batch['cond']['text'].shape == (16, 7, 6)
  assert not np.any(batch['null']['mask'])


@pytest.mark.slow
def test_it_is_drawn_from_captions_in_python(run):
  flow = flowdistill.load(run, stage='distil')
  text, mask = np.zeros((7, 6)), np.zeros(7, bool)
  text[0], mask[0] = WORDS[2], True
  one = flow.sample(3, nfe=1, cond={'text': text, 'mask': mask})
  each = flow.sample(3, nfe=1, cond={'text': [text] * 3, 'mask': [mask] * 3})
  np.testing.assert_array_equal(one, each)
  text[3] = 100  # behind the mask
  hidden = flow.sample(3, nfe=1, cond={'text': text, 'mask': mask})
  np.testing.assert_array_equal(one, hidden)
  mask[3] = True
  seen = flow.sample(3, nfe=1, cond={'text': text, 'mask': mask})
  assert np.max(np.abs(seen - one)) > 1e-4
  how = {'model': 'teacher', 'sampler': 'euler', 'nfe': 2, 'guidance': 3.0}
  guided = flow.sample(3, cond={'text': text, 'mask': mask}, **how)
  assert np.isfinite(guided).all()
  back = flow.encode(guided, cond={'text': text, 'mask': mask}, nfe=4)
  assert back.shape == guided.shape
  with pytest.raises(ValueError, match="cond has 'txt'.*did you mean 'text'"):
    flow.sample(3, nfe=1, cond={'txt': text})
  with pytest.raises(ValueError, match='this data set has no classes'):
    flow.sample(3, nfe=1, label=1)


@pytest.mark.slow
def test_it_is_drawn_from_captions_on_the_command_line(run, tmp_path):
  """This process knows the data set; a fresh one, by the record of the run."""
  file = tmp_path / 'captions.npz'
  text, mask = np.zeros((7, 6)), np.zeros(7, bool)
  text[0], mask[0] = WORDS[1], True
  np.savez(file, text=text, mask=mask)
  command = [sys.executable, '-m', 'flowdistill.main', '--job=generate']
  command += [f'--config={CONFIG}', f'--workdir={run}', '--stage=distil']
  command += ['--samples=3', '--nfe=1', f'--cond={file}']
  command += [f'--out={tmp_path / "out"}']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / 'out' / 'samples.npz') as saved:
    x0 = saved['x0']
  cond = {'text': text, 'mask': mask}
  here = flowdistill.load(run, stage='distil').sample(3, nfe=1, cond=cond)
  np.testing.assert_allclose(x0, here, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', ['data=2,fsdp=2,tensor=2', 'fsdp=8'])
def test_on_a_mesh_it_learns_the_same(run, tmp_path, mesh):
  axes = [f'--config.mesh.{axis}' for axis in mesh.split(',')]
  process = hosts.start(tmp_path, CONFIG, 8, '--stage=flow', *axes)
  (ended,) = hosts.end_all([process])
  assert ended[0] == 0, ended[2]
  ours, theirs = (losses(w, 'flow') for w in (run, tmp_path))
  assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_it_is_killed_and_continued_to_the_byte(run, tmp_path):
  def ready():
    path = tmp_path / 'flow' / 'metrics.jsonl'
    return path.is_file() and len(path.read_text().splitlines()) >= 3

  only = {'options': ('stage=flow',)}
  tiny.send_when(tiny.start(tmp_path, CONFIG, **only), ready)
  output = tiny.start(tmp_path, CONFIG, **only).communicate()[0]
  assert 'results and pictures' in output, output
  tiny.assert_same_bytes(
    elastic.arrays(run / 'flow'), elastic.arrays(tmp_path / 'flow')
  )


def test_a_network_that_takes_no_text_says_so():
  stages = tiny.stages(CONFIG, 'network=adm')
  with pytest.raises(ConfigError, match="'text'"):
    tiny.check_here(stages, pathlib.Path('nowhere'))


@pytest.mark.slow
def test_text_matters_to_what_is_learnt(tmp_path):
  """A flow of 300 steps draws the row that its caption names."""
  tiny.train_here(
    tmp_path,
    CONFIG,
    'network.depth=2',
    'stages.flow.train.steps=300',
    'stages.flow.train.batch_size=64',
    'dataset.size=256',
    'stages.flow.optim.schedule.learning_rate=3e-3',
    *(f'stages.{s}.train.steps=1' for s in ('distil', 'reflow')),
    'stages.distil.evaluators={}',
  )
  flow = flowdistill.load(tmp_path, stage='flow')
  text, mask = np.zeros((4, 7, 6)), np.zeros((4, 7), bool)
  text[:, 0], mask[:, 0] = WORDS, True
  cond = {'text': np.repeat(text, 8, 0), 'mask': np.repeat(mask, 8, 0)}
  x = flow.sample(32, sampler='heun', nfe=15, cond=cond)
  brightest = x.mean((2, 3)).argmax(1)
  assert np.mean(brightest == np.repeat(np.arange(4), 8)) > 0.8
  jax.clear_caches()
