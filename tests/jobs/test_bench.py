"""The step is timed, and its table says what was measured."""

import importlib.util
import json
import pathlib
import sys
import types

import jax
import pytest
from jobs import tiny

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import bench
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.failure import Halted

DIT = f'{tiny.CONFIGS / "bench" / "dit_b2.py"}:runlocal'
EDM2 = f'{tiny.CONFIGS / "bench" / "edm2_xs.py"}:runlocal'
TORCH = importlib.util.find_spec('torch') is not None


def bench_here(workdir, source, *overrides, **options):
  specs = tiny.stages(source, *overrides)
  return tiny.run(bench, specs, workdir, bench.Options(**options))


def test_the_step_of_a_stage_is_timed(tmp_path, capsys):
  """The teacher of `distil` is not trained: there is nothing on the disk."""
  rows = bench_here(tmp_path, tiny.TOY, stage='distil', steps=3)
  (row,) = json.loads((tmp_path / 'bench.json').read_text())
  assert rows == [row]
  assert row['implementation'] == 'flowdistill'
  assert row['compile_s'] > 0
  low, high = row['ms_quartiles']
  assert 0 < low <= row['ms_per_step'] <= high
  assert row['images_per_s'] == pytest.approx(
    1e3 * row['batch_size'] / row['ms_per_step']
  )
  # Parameters, two moments and an EMA, and those of the teacher.
  assert row['peak_bytes'] > 5 * 4 * 300
  assert row['mfu'] is None
  printed = capsys.readouterr().out
  assert 'distil: a step of 16 on 1 x cpu, the median of 3' in printed
  assert 'the peak of cpu is not known, so there is no MFU' in printed
  assert 'our time' not in printed


@pytest.mark.parametrize('given', [True, False])
def test_rows_are_written_to_the_workdir_that_is_given(
  given, monkeypatch, tmp_path
):
  """Without one nothing is written here."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(bench, 'measure', lambda blueprint, options: [{'x': 1}])
  monkeypatch.setattr(bench, 'show', lambda rows: None)
  workdir = tmp_path if given else pathlib.Path()
  assert bench_here(workdir, tiny.TOY) == [{'x': 1}]
  assert (tmp_path / 'bench.json').exists() == given


# A step takes 4 images.
TRAIN = types.SimpleNamespace(batch_size=4)
COST = types.SimpleNamespace(stage=types.SimpleNamespace(train=TRAIN))


def test_a_measurement_has_all_updates(tmp_path):
  """With accumulation, only every third step updates the parameters."""
  specs = tiny.stages(tiny.TOY, 'stages.distil.optim.accumulate=3')
  blueprints = Blueprints(specs, tmp_path, recorded=True)
  assert bench.period_of(blueprints['distil']) == 3
  assert bench.period_of(blueprints['flow']) == 1


def test_speed_follows_from_the_median(monkeypatch):
  monkeypatch.setattr(bench, 'useful_flops', lambda blueprint: 6e12)
  monkeypatch.setattr(bench, 'peak_flops', lambda: 12e12)
  row = bench.speed(COST, [1.0, 2.0, 3.0])
  assert row == {
    'ms_per_step': 2000.0,
    'ms_quartiles': [1500.0, 2500.0],
    'images_per_s': 2.0,
    'flops_per_s': 3e12,
    'mfu': 0.25,
  }
  monkeypatch.setattr(bench, 'peak_flops', lambda: None)
  assert bench.speed(COST, [2.0])['mfu'] is None
  monkeypatch.setattr(bench, 'useful_flops', lambda blueprint: None)
  assert bench.speed(COST, [2.0])['flops_per_s'] is None


def test_a_ratio_is_the_median_over_the_rounds():
  """A round in which the machine was busy does not change it."""
  row = bench.ratio([1.0, 1.0, 100.0], [2.0, 2.0, 200.0])
  assert row == {'our_time_over_this': 0.5, 'ratio_quartiles': [0.5, 0.5]}


def test_another_loss_is_another_step():
  bench.check_same(2.0, 'PyTorch', 2.001)
  with pytest.raises(Halted, match=r'first loss is 2, and 2\.1 in PyTorch'):
    bench.check_same(2.0, 'PyTorch', 2.1)
  with pytest.raises(Halted, match='nan in PyTorch'):
    bench.check_same(2.0, 'PyTorch', float('nan'))


def test_the_table_has_a_line_for_each_and_says_what_is_missing(capsys):
  rows = [
    {
      'stage': 'distil',
      'device': 'NVIDIA H200',
      'devices': 1,
      'batch_size': 8,
      'steps': 10,
      'implementation': name,
      'ms_per_step': ms,
      'ms_quartiles': [ms - 1, ms + 1],
      'images_per_s': 8e3 / ms,
      'flops_per_s': 1.5e14,
      'mfu': 0.152,
      'peak_bytes': 3e9,
      **bench.ratio([50.0], [ms]),
    }
    for name, ms in {
      bench.OURS: 50.0,
      'PyTorch, eager': 100.0,
      'PyTorch, in float64': 1234567.0,
    }.items()
  ]
  missing = {'implementation': 'PyTorch, compiled', 'unavailable': 'because x'}
  bench.show([*rows, missing])
  printed = capsys.readouterr().out
  assert '15.2%' in printed
  assert '0.50 to 0.50' in printed
  assert '150 TFLOP/s' in printed
  assert max(map(len, printed.splitlines())) <= 80
  assert 'PyTorch, compiled: not available, because x' in printed
  assert 'not known' not in printed


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'steps': 0}, '^--steps=0 must be at least 1'),
    ({'warmup': 0}, '^--warmup=0 must be at least 1'),
    ({'seed': -1}, '^--seed=-1 must be at least 0'),
    (
      {'against': 'troch'},
      "^--against=troch does not exist; did you mean 'tor",
    ),
  ],
)
def test_options_out_of_range_raise(given, message):
  with pytest.raises(ConfigError, match=message):
    bench.Options(**given)


def test_without_pytorch_the_command_that_installs_it_is_given(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ConfigError, match=r'^--against=torch needs .*l\[torch\]'):
    bench_here(tmp_path, DIT, against='torch')


@pytest.mark.parametrize('backend', ['gpu', 'tpu'])
def test_a_device_that_pytorch_has_not_is_refused(
  backend, monkeypatch, tmp_path
):
  """Before the number of devices is, and before weights are drawn."""
  cuda = types.SimpleNamespace(is_available=lambda: backend != 'gpu')
  monkeypatch.setitem(sys.modules, 'torch', types.SimpleNamespace(cuda=cuda))
  monkeypatch.setattr(bench.supported, 'check_installed', lambda: None)
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  monkeypatch.setattr(bench, 'draw_inputs', None)
  message = (
    f'^--against=torch: this PyTorch has no {backend.upper()}, which JAX uses; '
    'set JAX_PLATFORMS=cpu$'
  )
  with pytest.raises(ConfigError, match=message):
    bench_here(tmp_path, DIT, against='torch')
  if backend == 'gpu':
    cuda.is_available = lambda: True
    bench.supported.check_backend()


@pytest.mark.parametrize(
  ('source', 'override', 'message'),
  [
    (tiny.TOY, '', "network.name = 'mlp' must be one of 'dit', 'edm2' with"),
    (DIT, 'objective.name=ect', "name = 'ect' must be one of 'rectified_flow'"),
    (
      DIT,
      'network.dtype=bfloat16',
      "dtype = 'bfloat16' must be 'float32' with",
    ),
    (DIT, 'network.dropout=0.1', 'dropout = 0.1 must be 0.0 with'),
    (DIT, 'network.remat=full', "remat = 'full' must be None with"),
    (EDM2, 'network.fir=true', 'fir = True must be False with'),
    (DIT, 'frozen.teacher.dtype=bfloat16', "dtype = 'bfloat16' must be 'float"),
    (DIT, 'objective.c=none', ''),
    (DIT, 'objective.guidance.name=fixed', 'objective.guidance = {'),
    (DIT, 'optim.accumulate=2', 'accumulate = 2 must be 1 with'),
    (DIT, 'optim.only=blocks.*', "only = 'blocks.*' must be '.' with"),
  ],
)
def test_what_has_no_counterpart_is_refused(
  source, override, message, tmp_path
):
  overrides = [f'stages.distil.{override}'] if override else []
  specs = tiny.stages(source, *overrides)
  blueprint = Blueprints(specs, tmp_path, recorded=True)['distil']
  if override and not message:
    bench.supported.check(blueprint)
    return
  with pytest.raises(ConfigError, match='^config.stages.distil.') as error:
    bench.supported.check(blueprint)
  assert message.replace("'.'", "'*'") in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not TORCH, reason='it needs the extra torch')
@pytest.mark.parametrize('source', [DIT, EDM2])
def test_pytorch_is_timed_in_the_same_run(source, tmp_path, capsys):
  options = {'against': 'torch', 'steps': 2}
  rows = bench_here(tmp_path, source, 'train.batch_size=2', **options)
  names = [row['implementation'] for row in rows]
  assert names == [bench.OURS, 'PyTorch, eager', 'PyTorch, compiled']
  ours, eager, compiled = rows
  assert ours['loss'] == pytest.approx(eager['loss'], rel=1e-4)
  assert eager['our_time_over_this'] > 0
  assert compiled.get('unavailable') or compiled['our_time_over_this'] > 0
  assert 'our time / this' in capsys.readouterr().out
