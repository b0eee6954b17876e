"""LoRA as runs: killed and continued, loaded, merged, and exported."""

import json
import shutil

import jax
import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import convert, train
from flowdistill.stages import order
from flowdistill.stages.blueprints import Blueprints

BASE = {'source': 'stage:flow', 'dtype': 'bfloat16'}
TOY = (
  'stages.distil.train.steps=40',
  'stages.flow.train.steps=2',
  'checkpoint.every=4',
  'log.every=1',
  'stages.distil.evaluators={}',
  f'stages.distil.init_from={BASE}',
  f'stages.distil.frozen={{"teacher": {BASE}}}',
  'stages.distil.lora={"layers": ("layers.*.linear", "first"), "rank": 2, '
  '"dropout": 0.1, "full": ("times.of_s.*",)}',
  'stages.distil.optim.state_dtype=bfloat16',
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The workdir of a run that nobody disturbed."""
  workdir = tmp_path_factory.mktemp('finished')
  output = tiny.start(workdir, tiny.TOY, *TOY).communicate()[0]
  assert 'results and pictures' in output, output
  return workdir


def test_killed_and_continued_is_the_same_to_the_byte(finished, tmp_path):
  def saved_twice():
    found = (tmp_path / 'distil' / 'checkpoints').glob('*')
    return any(p.name.isdigit() and int(p.name) > 4 for p in found)

  process = tiny.start(tmp_path, tiny.TOY, *TOY)
  tiny.send_when(process, saved_twice, seconds=240)
  output = tiny.start(tmp_path, tiny.TOY, *TOY).communicate()[0]
  assert 'distil: continues at step' in output, output
  arrays = tiny.arrays(finished / 'distil')
  tiny.assert_same_bytes(tiny.arrays(tmp_path / 'distil'), arrays)
  kinds = {n: str(x.dtype) for n, x in arrays.items() if 'linear.lora_a' in n}
  assert kinds == {
    f'roles.student.{place}.layers.each.linear.lora_a': dtype
    for place, dtype in {
      'params': 'float32',
      'emas.main': 'float32',
      'opt_state.1.inner.0.mu': 'bfloat16',
      'opt_state.1.inner.0.nu': 'bfloat16',
    }.items()
  }


def test_it_is_recorded_and_refused_with_another_rank(finished):
  found = json.loads((finished / 'distil' / 'config.json').read_text())
  assert found['config']['lora']['rank'] == 2
  assert found['config']['init_from']['dtype'] == 'bfloat16'
  origin = 'stage:flow at step 2'
  assert found['references'] == {
    'student.init_from': origin,
    'teacher': origin,
  }
  for change in ('lora.rank=1', 'lora=none'):
    fix = ('init_from.dtype=float32',) * (change == 'lora=none')
    more = (f'stages.distil.{text}' for text in (change, *fix))
    with pytest.raises(ConfigError, match=r'another config: .*lora'):
      tiny.train_here(finished, tiny.TOY, *TOY, *more)


def test_it_is_sampled_and_refused_without_its_base(finished, tmp_path):
  run = flowdistill.load(finished)
  x = run.sample(8, nfe=2)
  assert np.isfinite(x).all()
  kept = tmp_path / 'run'
  shutil.copytree(finished, kept)
  np.testing.assert_array_equal(flowdistill.load(kept).sample(8, nfe=2), x)
  path = kept / 'distil' / 'config.json'
  text = json.dumps(json.loads(path.read_text()))
  path.write_text(text.replace('flow at step 2', 'flow at step 9'))
  assert order.outdated(Blueprints.of_run(kept), ['distil'])['distil'] == (
    "distil began with 'stage:flow at step 9', and flow is at step 2 now"
  )
  with pytest.raises(ConfigError, match='the base of its LoRA was .* step 9'):
    flowdistill.load(kept)
  shutil.rmtree(kept / 'flow')
  with pytest.raises(ConfigError, match='flow'):
    flowdistill.load(kept)


SIT = """
def get_config(arg=''):
  flow = {'objective': 'rectified_flow'}
  lora = {'layers': ('blocks.*.qkv', 'blocks.*.up'), 'rank': 2, 'alpha': 8.0}
  own = {'init_from': 'stage:flow', 'lora': lora, 'objective': 'rectified_flow'}
  again = {'init_from': 'stage:own', 'objective': 'rectified_flow'}
  return {
    'dataset': 'digits',
    'network': {'name': 'sit', 'width': 8, 'depth': 1, 'heads': 2},
    'train': {'steps': 2, 'batch_size': 4},
    'optim': {'schedule': {'name': 'constant', 'learning_rate': 0.05}},
    'stages': {'flow': flow, 'own': own, 'again': again},
  }
"""


def test_merged_weights_are_exported_and_can_be_trained_on(tmp_path):
  source = tmp_path / 'config.py'
  source.write_text(SIT)
  specs = tiny.stages(source)
  some = {name: specs[name] for name in ('flow', 'own')}
  train.run(tiny.check_here(some, tmp_path / 'run'), train.Options())
  run = flowdistill.load(tmp_path / 'run', stage='own')
  to = tmp_path / 'own.safetensors'
  tiny.run(
    convert, specs, tmp_path / 'run', convert.Options(stage='own', to=str(to))
  )
  options = convert.Options(from_=str(to), to=str(tmp_path / 'back'))
  tiny.run(convert, {'run': specs['flow']}, tmp_path, options)
  back = flowdistill.load(tmp_path / 'back')
  x, merged = (r.sample(6, nfe=3, sampler='euler') for r in (run, back))
  base = flowdistill.load(tmp_path / 'run', stage='flow')
  moved = base.sample(6, nfe=3, sampler='euler') - x
  assert np.abs(moved).max() > 1e-2
  np.testing.assert_allclose(x, merged, atol=1e-4)
  again = tiny.check_here(specs, tmp_path / 'run')['again']
  assert jax.tree.structure(again.weights('student').params) == (
    jax.tree.structure(again.roles['student'].model.params)
  )
