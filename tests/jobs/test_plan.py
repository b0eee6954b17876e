"""The plan of a run: exact where it is said to be, and nothing is touched."""

import functools
import json
import os
import pathlib
import subprocess
import sys
from collections import Counter

import jax
import numpy as np
import pytest
from jobs import tiny
from PIL import Image

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import plan
from flowdistill.planning.cost import forward_passes
from flowdistill.planning.estimate import seconds
from flowdistill.planning.forecast import forecast
from flowdistill.planning.hardware import Hardware
from flowdistill.planning.traffic import Transfer
from flowdistill.stages import check
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.tracing import trace

QUICKSTART = tiny.CONFIGS / 'quickstart.py'
SMALL = ('network.width=64', 'network.depth=1', 'train.batch_size=16')
MESHES = ('8x1x1', '1x8x1', '4x2x1', '2x2x2')
PLACED = """
import json, pathlib, sys
import jax
from jobs import tiny
from flowdistill.stages.assembly import assemble, fresh_state
from flowdistill.stages.blueprints import Blueprints

def held(tree):
  device = jax.devices()[0]
  return sum(
    shard.data.nbytes
    for array in jax.tree.leaves(tree)
    for shard in array.addressable_shards
    if shard.device == device
  )

source, overrides, *meshes = json.loads(sys.argv[1])
for mesh in meshes:
  specs = tiny.stages(source, *overrides, *mesh)
  nowhere = pathlib.Path('nowhere')
  state = fresh_state(assemble(Blueprints(specs, nowhere)['flow'], nowhere))
  role = state.roles['student']
  found = {
    'parameters': held(role.params),
    'ema': held(role.emas),
    'optimiser': held(role.opt_state),
    'gradients': held(role.params),
  }
  print(json.dumps(found))
"""


def axes(mesh):
  """'2x2x2' as overrides."""
  named = zip(('data', 'fsdp', 'tensor'), mesh.split('x'), strict=True)
  return [f'mesh.{axis}={size}' for axis, size in named]


def planned(name, *overrides, source=QUICKSTART, devices=8):
  specs = tiny.stages(source, *overrides)
  return forecast(Blueprints(specs, pathlib.Path('nowhere'))[name], devices)


def in_python(*command, **env):
  done = subprocess.run(
    [sys.executable, *command],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), **env},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_bytes_are_those_of_real_arrays_on_eight_devices():
  flags = '--xla_force_host_platform_device_count=8'
  asked = [str(QUICKSTART), SMALL, *map(axes, MESHES)]
  out = in_python(
    '-c', PLACED, json.dumps(asked), XLA_FLAGS=flags, JAX_PLATFORMS='cpu'
  )
  rows = [planned('flow', *SMALL, *axes(mesh)) for mesh in MESHES]
  found = [row['bytes_per_device'] for row in rows]
  real = [json.loads(line) for line in out.splitlines()]
  assert len(real) == len(MESHES)
  for ours, theirs in zip(found, real, strict=True):
    assert {key: ours[key] for key in theirs} == theirs
  assert found[1]['parameters'] < found[2]['parameters']
  assert found[2]['parameters'] < found[0]['parameters']


@pytest.mark.parametrize(
  'where',
  [(), pytest.param(('--workdir=workdir',), marks=pytest.mark.slow)],
)
def test_the_command_uses_no_device_and_writes_nothing(
  tmp_path, monkeypatch, where
):
  """Any use of a device raises on a platform that does not exist."""
  monkeypatch.chdir(tmp_path)
  file = tmp_path / 'plan.json'
  out = in_python(
    *('-m', 'flowdistill.main', '--config', tiny.TOY, '--job=plan', *where),
    *('--devices=8', '--kind=v5e', f'--json={file}'),
    JAX_PLATFORMS='none_such',
  )
  rows = json.loads(file.read_text())
  assert [row['stage'] for row in rows] == ['flow', 'distil']
  assert sorted(os.listdir(tmp_path)) == ['plan.json']
  for text in ('flow: 8 device(s)', 'at the peak', 'none of it measured'):
    assert text in out
  assert out.count('fits: yes') == 2


@pytest.mark.parametrize('host', [0, 1])
def test_of_several_hosts_the_first_prints(tmp_path, monkeypatch, capsys, host):
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  monkeypatch.setattr(jax, 'process_index', lambda: host)
  file = tmp_path / 'plan.json'
  options = plan.Options(devices=8, stage='flow', json=str(file))
  rows = tiny.run(plan, tiny.stages(tiny.TOY), tmp_path, options)
  assert [row['stage'] for row in rows] == ['flow']
  first = host == 0
  assert file.exists() == first
  assert bool(capsys.readouterr().out) == first


@pytest.mark.parametrize('name', ['flow', 'distil'])
def test_the_work_is_what_training_counts(tmp_path, name):
  objective = 'stages.distil.objective.name=mean_flow'
  frozen = 'stages.distil.frozen={}', 'stages.distil.init_from=none'
  stages = tiny.stages(tiny.TOY, objective, *frozen)
  blueprint = Blueprints(stages, tmp_path)[name]
  row = forecast(blueprint, 1)
  assert row['forward_passes'] == pytest.approx(forward_passes(blueprint))
  params = jax.tree.leaves(blueprint.roles['student'].model.params)
  assert row['parameters'] == sum(int(np.prod(x.shape)) for x in params)


def test_a_plan_needs_no_data(tmp_path):
  """Its shapes are those that the config declares."""
  known = {'name': 'tfds', 'builder': 'cifar10', 'data_dir': str(tmp_path)}
  missing = tiny.stages(
    QUICKSTART, *SMALL, f'dataset={known}', *tiny.UNMEASURED
  )
  flow = Blueprints({'flow': missing['flow']}, tmp_path / 'run')['flow']
  assert forecast(flow, 1)['parameters'] > 0
  assert (flow.sees.shape, flow.sees.num_classes) == ((32, 32, 3), 10)
  with pytest.raises(ValueError, match='is not prepared'):
    len(flow.data)


def test_a_plan_in_epochs_opens_the_data(tmp_path):
  """What a config declares has no length."""
  for k in range(12):
    image = np.full((8, 8, 3), 20 * k, np.uint8)
    Image.fromarray(image).save(tmp_path / f'{k}.png')
  folder = {'name': 'folder', 'path': str(tmp_path), 'size': 8}
  more = (f'dataset={folder}', 'train.epochs=2', 'train.batch_size=4')
  specs = tiny.stages(QUICKSTART, *SMALL, *tiny.UNMEASURED, *more)
  flow = Blueprints({'flow': specs['flow']}, tmp_path / 'run')['flow']
  assert flow.total == 6


def test_work_and_memory_grow_with_the_batch():
  once, twice = (
    planned('flow', *SMALL, f'train.batch_size={n}', devices=8)
    for n in (64, 128)
  )
  assert twice['flops_per_step'] == 2 * once['flops_per_step']
  assert twice['forward_passes'] == once['forward_passes']
  small, large = once['bytes_per_device'], twice['bytes_per_device']
  assert small['parameters'] == large['parameters']
  assert 1.8 < large['activations'] / small['activations'] < 2.2


def test_a_teacher_is_counted_by_its_stage():
  distil = planned('distil', *SMALL)['bytes_per_device']
  assert distil['frozen'] == 2 * distil['parameters']  # teacher and weak


def test_half_as_many_bytes_in_bfloat16():
  """Of what the products keep; parameters stay in float32."""
  whole, half = (
    planned('flow', f'network.dtype={dtype}')['bytes_per_device']
    for dtype in ('float32', 'bfloat16')
  )
  assert whole['parameters'] == half['parameters']
  assert 0.5 < half['activations'] / whole['activations'] < 0.8


def test_accumulation_has_a_gradient_more():
  plain, accumulated = (
    planned('flow', *SMALL, f'optim.accumulate={n}')['bytes_per_device']
    for n in (1, 2)
  )
  more = accumulated['optimiser'] - plain['optimiser']
  assert 0 <= more - plain['parameters'] < 64  # and counters


def test_the_largest_arrays():
  rows = planned('flow', *SMALL, *axes('2x2x2'))['largest']
  assert len(rows) == 5
  sizes = [row['bytes'] for row in rows]
  assert sizes == sorted(sizes, reverse=True)
  first = rows[0]
  assert first['path'] == 'blocks.each.modulation.kernel'
  assert (first['shape'], first['cut']) == ([1, 64, 384], 'fsdp')
  cuts = {row['path']: row['cut'] for row in rows}
  assert cuts['blocks.each.up.kernel'] == 'fsdp, tensor'
  assert cuts['blocks.each.down.kernel'] == 'tensor, fsdp'


ROW = {
  'devices': 4,
  'steps': 9000,
  'flops_per_step': 4e14,
  'bytes_per_device': {'peak': 20e9, 'offloaded': 0},
  'mesh': {'data': 2, 'fsdp': 2, 'tensor': 1},
  'traffic': [],
}
OPTIONS = plan.Options(kind='v6e', utilisation=0.5, price=3.0)
SUMMED = Transfer('all-reduce', 'gradients', 'data', 2, 8_000_000_000)


def test_an_estimate_by_hand():
  assert plan.priced(ROW, plan.Options()) == {}
  found = plan.priced(ROW, OPTIONS)
  assert found['seconds_per_step'] == pytest.approx(4e14 / (4 * 918e12 * 0.5))
  assert found['device_hours'] == pytest.approx(found['seconds_per_step'] * 10)
  assert found['dollars'] == pytest.approx(3 * found['device_hours'])
  assert (found['fits'], found['share_of_memory']) == (True, 0.625)
  small = plan.priced(ROW, plan.Options(kind='v5e'))
  assert (small['fits'], small['dollars']) == (False, None)
  assert plan.verdict({**ROW, **small})[3:] == ['fits: no, 125 % of 16 GB']
  far = {'bytes_per_device': {'peak': 20e9, 'offloaded': 24e9}}
  last = plan.verdict({**ROW, **small, **far})[-1]
  assert last.startswith('24 GB come from the host whenever')


@pytest.mark.parametrize('count', [1, 40])
def test_communication_by_hand(count):
  """8 GB are summed by two devices: 8 GB each, at 400 GB/s, is 20 ms."""
  found = plan.priced({**ROW, 'traffic': [SUMMED] * count}, OPTIONS)
  products, sending = 4e14 / (4 * 918e12 * 0.5), count * 0.02
  assert found['seconds_of_traffic'] == pytest.approx([0.02] * count)
  assert found['seconds_of_communication'] == pytest.approx(sending)
  assert found['seconds_per_step'] == pytest.approx(max(products, sending))
  apart = found['seconds_per_step_apart']
  assert apart == pytest.approx(products + sending)
  bound = 'products' if count == 1 else 'communication'
  assert found['bound_by'] == bound
  assert found['dominant'] == 'all-reduce of gradients along data'
  first, second, *_ = plan.verdict({**ROW, **found})
  assert first.endswith('most of it all-reduce of gradients along data')
  assert second.endswith(f'bound by {bound}')


def test_the_slowest_dominates_not_the_largest():
  """Within a host of GPUs it is nine times as fast as between them."""
  within = Transfer('all-gather', 'parameters', 'tensor', 8, 80_000)
  between = Transfer('all-gather', 'parameters', 'data', 2, 40_000)
  sizes = {'data': 2, 'fsdp': 1, 'tensor': 8}
  row = {**ROW, 'mesh': sizes, 'traffic': [within, between]}
  found = plan.priced(row, plan.Options(kind='h100'))
  assert within.moved > between.moved
  assert found['dominant'] == 'all-gather of parameters along data'


@pytest.mark.parametrize(
  ('mesh', 'axis', 'domain', 'near'),
  [
    ((1, 1, 8), 'tensor', 8, 8),
    ((1, 1, 16), 'tensor', 8, 8),
    ((1, 8, 8), 'fsdp', 8, 1),
    ((1, 8, 4), 'fsdp', 8, 2),
    ((8, 2, 2), 'data', 8, 2),
    ((8, 2, 2), 'data', 256, 8),
    ((64, 1, 1), 'data', 8, 8),
    ((6, 1, 1), 'data', 4, 2),
  ],
)
def test_what_leaves_a_domain_is_slow(mesh, axis, domain, near):
  sizes = dict(zip(('data', 'fsdp', 'tensor'), mesh, strict=True))
  chip = Hardware(1.0, 1.0, 4.0, 1.0, domain, ())
  transfer = Transfer('all-gather', 'parameters', axis, sizes[axis], 1000)
  n = sizes[axis]
  inside = 1000 * (near - 1) / near
  outside = 1000 / near * (1 - near / n)
  expected = inside / 4 + outside
  assert seconds(transfer, sizes, chip) == pytest.approx(expected)


def test_what_is_sent_is_shown_and_written(tmp_path, capsys):
  file = tmp_path / 'plan.json'
  stages = tiny.stages(QUICKSTART, *SMALL, *axes('2x2x2'))
  options = plan.Options(devices=8, kind='h100', stage='distil', json=str(file))
  (row,) = tiny.run(plan, stages, tmp_path, options)
  (written,) = json.loads(file.read_text())
  sent = written['traffic']
  assert {t['axis'] for t in sent} == {'data', 'fsdp', 'tensor'}
  moved = [t['moved'] for t in sent]
  assert moved == sorted(moved, reverse=True)
  total = sum(t['seconds'] for t in sent)
  assert total == pytest.approx(row['seconds_of_communication'])
  out = capsys.readouterr().out
  for transfer in sent:
    assert plan.human(transfer['moved'], 'B') in out
  assert 'reduce-scatter' in out


def test_without_a_kind_bytes_are_shown_and_no_times(tmp_path, capsys):
  stages = tiny.stages(QUICKSTART, *SMALL)
  tiny.run(plan, stages, tmp_path, plan.Options(devices=8, stage='flow'))
  out = capsys.readouterr().out
  assert 'all-reduce' in out and 'bound by' not in out


def test_a_mesh_or_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(ConfigError, match=r'stages\.flow\.mesh: .*6 device\(s\)'):
    planned('flow', 'mesh.fsdp=4', devices=6)
  with pytest.raises(ConfigError, match='batch_size = 128 .* 126 or 129'):
    planned('flow', devices=3)


@pytest.mark.parametrize(
  ('number', 'unit', 'expected'),
  [
    (0, 'B', '0 B'),
    (999, 'B', '999 B'),
    (1234567, 'B', '1.23 MB'),
    (80e9, 'B', '80 GB'),
    (2.5e15, 'FLOP', '2.5 PFLOP'),
    (0.00125, 's', '1.25 ms'),
    (3e-12, 's', '0.003 ns'),
  ],
)
def test_human_units(number, unit, expected):
  assert plan.human(number, unit) == expected


def test_durations():
  found = [plan.duration(x) for x in (0.5, 90, 130, 9000, 200000)]
  assert found == ['500 ms', '90 s', '2.17 min', '2.5 h', '2.31 days']


def test_bfloat16_halves_averages_and_frozen_weights():
  half = (
    "stages.distil.ema.main.dtype='bfloat16'",
    "stages.distil.frozen.teacher={'source': 'stage:flow','dtype': 'bfloat16'}",
  )
  whole, halved = (
    planned('distil', *overrides, source=tiny.TOY, devices=1)[
      'bytes_per_device'
    ]
    for overrides in ((), half)
  )
  assert halved['ema'] == whole['ema'] / 2
  assert halved['frozen'] == whole['frozen'] / 2
  assert halved['parameters'] == whole['parameters']


CHAIN = """
from ml_collections import ConfigDict

def get_config(arg=''):
  stages = {'s0': {'objective': 'rectified_flow'}}
  for k in range(1, int(arg)):
    before = f'stage:s{k - 1}'
    stages[f's{k}'] = {
      'objective': 'ayf_emd', 'frozen': {'teacher': before},
      'init_from': before, 'seed': k,
    }
  return ConfigDict({
    'dataset': 'moons',
    'network': {'name': 'mlp', 'width': 8, 'depth': 1},
    'train': {'steps': 2, 'batch_size': 16},
    'stages': stages,
  }, sort_keys=False)
"""


@pytest.mark.parametrize(
  'count', [8, pytest.param(200, marks=pytest.mark.slow)]
)
def test_stages_with_the_same_step_are_calculated_once(
  tmp_path, monkeypatch, capsys, count
):
  """However many: a chain of students, each the teacher of the next."""
  calls = Counter()

  def counted(f, *args):
    calls[f.__name__] += 1
    return f(*args)

  for module, f in ((plan, forecast), (check, trace)):
    monkeypatch.setattr(module, f.__name__, functools.partial(counted, f))
  (tmp_path / 'chain.py').write_text(CHAIN)
  specs = tiny.stages(f'{tmp_path}/chain.py:{count}')
  blueprints = tiny.check_here(specs, tmp_path)
  rows = plan.run(blueprints, plan.Options(devices=1))
  assert [row['stage'] for row in rows] == list(specs)
  assert calls == {'forecast': 2, 'trace': 2}
  alone = forecast(blueprints['s2'], 1)
  assert rows[2] == alone
  assert capsys.readouterr().out.count('s2: 1 device(s)') == 1


HALF = {'source': 'stage:s1', 'dtype': 'bfloat16'}


def test_stages_with_another_step_are_not_mixed_up(tmp_path):
  (tmp_path / 'chain.py').write_text(CHAIN)
  other = {
    'stages.s2.train.batch_size=32': 's2',
    'stages.s2.objective.warmup_steps=3': 's2',
    "stages.s1.ema={'main': {'half_life': {'steps': 2}}}": 's1',
    f'stages.s2.frozen.teacher={HALF}': 's2',
    'stages.s2.mesh.fsdp=1': '',
  }
  for override, name in other.items():
    specs = tiny.stages(f'{tmp_path}/chain.py:4', override)
    blueprints = Blueprints(specs, tmp_path)
    rest = [blueprints[n].likeness for n in specs if n not in ('s0', name)]
    assert len(set(rest)) == 1, override
    if name:
      assert blueprints[name].likeness != rest[0], override
