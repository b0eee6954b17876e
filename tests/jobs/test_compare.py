"""--job=compare: stages that are trained and compared, end to end."""

import json

import numpy as np
import pytest
from jobs import tiny
from matplotlib.image import imread

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.figures.methods import Point
from flowdistill.jobs import compare, evaluate, generate
from flowdistill.training.checkpoint import completed_steps

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  student = {
    'init_from': 'stage:flow',
    'frozen': {'teacher': 'stage:flow'},
    'objective': 'ayf_emd',
    'evaluators': {
      'energy': {
        'name': 'energy',
        'sweep': {
          'teacher': [['heun', 3]],
          'student': [['flow_map', 2]],
        },
      },
    },
  }
  diagnosed = {
    'semigroup': 'semigroup',
    'boundary': {'name': 'boundary', 'times': (0.5,)},
    'straightness': {'name': 'straightness', 'steps': 2, 'role': 'teacher'},
    'distance': {
      'name': 'teacher_distance',
      'sweep': {'student': [['flow_map', 2]]},
      'reference': {'teacher': [['heun', 3]]},
    },
    'rk45': {
      'name': 'any_step',
      'sweep': {'teacher': [['rk45', None, {'rtol': 0.01}]]},
    },
  }
  diagnosed = {**student['evaluators'], **diagnosed}
  stages = {
    'flow': {'objective': 'rectified_flow'},
    'emd': {**student, 'evaluators': diagnosed},
    'emd_seed1': {**student, 'seed': 1},
  }
  return ConfigDict(
    {
      'dataset': 'moons',
      'network': 'mlp',
      'train': {'steps': 1},
      'stages': stages,
    },
    sort_keys=False,
  )
"""


@pytest.mark.parametrize('name', ['out', 'steps'])
def test_options_about_runs_have_no_effect_on_stages(name, tmp_path):
  options = compare.Options(**{name: 'all'})
  with pytest.raises(ConfigError, match=f'--{name}=all has an effect only bet'):
    tiny.run(compare, tiny.stages(tiny.TOY), tmp_path / 'W', options)
  assert not (tmp_path / 'W').exists()


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
  """The folder of a comparison, and what it returned."""
  folder = tmp_path_factory.mktemp('compare')
  (folder / 'config.py').write_text(CONFIG)
  stages = tiny.stages(f'{folder / "config.py"}:runlocal')
  tiny.check_here(stages, folder / 'W')
  return (
    folder / 'W',
    stages,
    tiny.run(compare, stages, folder / 'W', compare.Options()),
  )


def test_every_stage_is_trained_and_compared(compared):
  workdir, stages, methods = compared
  for name in stages:
    assert completed_steps(workdir / name / 'checkpoints') == [2]
  assert [(m.name, m.seeds, m.steps) for m in methods] == [
    ('flow (teacher), heun', 1, 2),
    ('flow (teacher), rk45, rtol=0.01', 1, 2),
    ('emd', 2, 2),
  ]
  values = [
    next(
      r['energy_distance']
      for r in json.loads((workdir / name / 'results.json').read_text())
      if (r['model'], r['nfe']) == ('student', 2)
    )
    for name in ('emd', 'emd_seed1')
  ]
  median = sum(values) / 2
  assert methods[-1].points[0] == Point(2, median, min(values), max(values))
  assert len(set(values)) == 2
  table = (workdir / 'comparison.md').read_text()
  assert table.startswith('# energy_distance over NFE\n\n| method | NFE 2 |')
  rows = json.loads((workdir / 'comparison.json').read_text())
  assert [(r['name'], r['nfe'], r['adaptive']) for r in rows] == [
    ('flow (teacher), heun', 3, False),
    ('flow (teacher), rk45, rtol=0.01', pytest.approx(20, abs=15), True),
    ('emd', 2, False),
  ]
  assert (rows[-1]['value'], rows[-1]['metric']) == (median, 'energy_distance')
  assert imread(workdir / 'samples' / 'comparison.png').shape[0] >= 1000


def test_diagnostics_run_on_real_networks(compared):
  """One step after its start a student is still close to its teacher."""
  workdir, _, _ = compared
  rows = json.loads((workdir / 'emd' / 'results.json').read_text())
  figures = [
    'semigroup_error',
    'boundary_error',
    'straightness',
    'teacher_distance',
  ]
  found = {k: row[k] for row in rows for k in figures if k in row}
  assert list(found) == figures
  assert 0 < found['boundary_error'] < 0.1
  assert all(0 < value < 2 for value in found.values())
  (picture,) = (workdir / 'emd' / 'samples').iterdir()
  assert picture.name == 'teacher_distance.png'


def test_a_finished_run_is_compared_by_another_figure(compared, capsys):
  workdir, stages, methods = compared
  before = (workdir / 'emd' / 'metrics.jsonl').read_bytes()
  other = tiny.run(compare, stages, workdir, compare.Options('ms_per_image'))
  assert [m.name for m in other] == [m.name for m in methods]
  assert other != methods
  assert capsys.readouterr().out.count('finished before') == len(stages)
  assert (workdir / 'emd' / 'metrics.jsonl').read_bytes() == before
  table = (workdir / 'comparison.md').read_text()
  assert table.startswith('# ms_per_image over NFE')


def test_other_jobs_draw_in_every_way(compared, tmp_path):
  workdir, stages, _ = compared
  how = {'sampler': 'gamma', 'options': {'gamma': 0.3}, 'grid': 'shifted'}
  lists = {name: (value,) for name, value in how.items()}
  options = evaluate.Options(
    **lists, nfe=(2, 4), stage='emd', model=('student',)
  )
  rows = tiny.run(evaluate, stages, workdir, options)
  assert {row['options'] for row in rows} == {'gamma=0.3, grid=shifted'}
  assert {'energy_distance', 'teacher_distance'} <= {k for r in rows for k in r}
  options = generate.Options(
    **how, nfe=2, stage='emd', samples=3, seed=4, out=str(tmp_path)
  )
  (out,) = tiny.run(generate, stages, workdir, options)
  with np.load(out / 'samples.npz') as saved:
    x = saved['x0']
  run = flowdistill.load(workdir, stage='emd')
  same = {'sampler': 'gamma', 'nfe': 2, 'seed': 4, 'gamma': 0.3}
  np.testing.assert_array_equal(x, run.sample(3, **same, grid='shifted'))
  assert not np.allclose(x, run.sample(3, **same))


def test_without_evaluators_nothing_is_trained(tmp_path):
  stages = tiny.stages(tiny.TOY, *tiny.UNMEASURED)
  with pytest.raises(ConfigError, match='no stage has evaluators'):
    tiny.run(compare, stages, tmp_path / 'W', compare.Options())
  assert not (tmp_path / 'W').exists()
