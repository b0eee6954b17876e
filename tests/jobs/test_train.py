"""Stages end to end: found again, refused, extended, stopped at a NaN."""

import dataclasses
import functools
import json
import os

import jax
import numpy as np
import pytest
from jobs import tiny

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.jobs import evaluate, generate, replay, train
from flowdistill.planning import cost
from flowdistill.stages import failure
from flowdistill.stages.assembly import first_state
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.job_options import check_options
from flowdistill.training.checkpoint import Checkpoints, completed_steps
from flowdistill.workdir.results import read_rows


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
  """A finished run of both stages on the moons, two steps each."""
  workdir = tmp_path_factory.mktemp('toy')
  rows = tiny.train_here(workdir, tiny.TOY)
  return workdir, rows


WHOLE = sorted(
  f'{path}:runlocal' if path.stem == 'emoji' else str(path)  # needs a font
  for path in tiny.CONFIGS.glob('*.py')
)


@pytest.mark.parametrize('source', WHOLE)
def test_every_shipped_config_builds_by_shapes(source, tmp_path):
  tiny.check_here(tiny.stages(source), tmp_path)


ORDINARY = ('slimflow/distil', 'images/folder')
FOLDERS = [
  pytest.param(f'{folder}/{name}', marks=marks)
  for folder, names in {
    'ayf': (
      'imagenet64',
      'imagenet256',
      'imagenet512',
      'cifar10',
      'digits32',
      'emoji',
    ),
    'slimflow': ('flow', 'reflow', 'annealed', 'distil', 'digits32'),
    'images': ('mnist', 'celeba', 'folder'),
  }.items()
  for name in names
  for marks in [() if f'{folder}/{name}' in ORDINARY else (pytest.mark.slow,)]
]


@pytest.mark.parametrize('source', FOLDERS)
def test_every_config_of_a_folder_builds_at_toy_size(source, tmp_path):
  stages = tiny.stages(f'{tiny.CONFIGS / source}.py:runlocal')
  tiny.check_here(stages, tmp_path)


@pytest.mark.slow
def test_align_your_flow_is_trained_in_five_stages(tmp_path):
  tiny.train_here(
    tmp_path, f'{tiny.CONFIGS / "ayf" / "imagenet64.py"}:runlocal'
  )
  for stage in ('flow', 'weak', 'align', 'distil', 'adversarial'):
    text = (tmp_path / stage / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in text] == [1, 2]


@pytest.mark.slow
def test_a_teacher_is_drawn_away_from_another_role(toy, tmp_path):
  """Both networks are read; in Python it is the same."""
  how = {'sampler': 'euler', 'nfe': 4}
  away = {'scale': 2.0, 'against': 'student'}
  options = generate.Options(
    stage='distil',
    model='teacher',
    samples=3,
    write='npz',
    out=str(tmp_path / 'out'),
    guidance=away,
    **how,
  )
  (place,) = tiny.run(generate, tiny.stages(tiny.TOY), toy[0], options)
  with np.load(place / 'samples.npz') as file:
    drawn = file['x0']
  draw = functools.partial(
    flowdistill.load(toy[0]).sample, 3, model='teacher', **how
  )
  np.testing.assert_array_equal(drawn, draw(guidance=away))
  assert np.abs(drawn - draw()).max() > 1e-3


def test_a_jump_is_not_led_away_from_a_teacher(toy):
  """Which it was trained to answer is said by the stage that trained it."""
  blueprints = Blueprints.of_run(toy[0])
  blueprint = blueprints['distil']
  answers = {role: blueprint.answers(role) for role in blueprint.roles}
  assert answers == {'student': 'average', 'teacher': 'velocity'}
  away = {'scale': 2.0, 'against': 'teacher'}
  options = generate.Options(stage='distil', guidance=away)
  wanted = "sampler = 'flow_map' must be a solver of the ODE, .* 'teacher' was"
  with pytest.raises(ConfigError, match=f'^--.* against=teacher: {wanted}'):
    check_options(options, blueprints, 'distil')
  with pytest.raises(ValueError, match=f'^{wanted}'):
    flowdistill.load(toy[0]).sample(3, guidance=away)


def test_a_run_leaves_what_readme_says(toy):
  workdir, rows = toy
  assert json.loads((workdir / 'results.json').read_text()) == rows
  assert {row['model'] for row in rows} == {'teacher', 'student'}
  for stage in ('flow', 'distil'):
    folder = workdir / stage
    first = json.loads((folder / 'metrics.jsonl').read_text().splitlines()[0])
    assert first['images'] == first['step'] * 16
    assert list(folder.glob('events.out.tfevents.*'))
    record = json.loads((folder / 'config.json').read_text())
    assert record['config']['train']['steps'] == 2
    assert record['environment']['packages']['jax']
  assert (workdir / 'samples' / 'teacher_and_student.png').is_file()
  page = (workdir / 'report.html').read_text()
  assert 'Stage distil' in page and 'Energy distance' in page


def test_a_finished_run_is_found_again_and_says_so(toy, capsys):
  workdir, rows = toy
  before = (workdir / 'distil' / 'metrics.jsonl').read_bytes()
  assert tiny.train_here(workdir, tiny.TOY) == rows
  printed = capsys.readouterr().out
  assert 'distil: finished before, at step 2' in printed
  assert 'flow_map' in printed
  assert (workdir / 'distil' / 'metrics.jsonl').read_bytes() == before


def test_another_config_is_refused_with_the_keys_that_differ(toy):
  workdir, _ = toy
  with pytest.raises(ConfigError) as error:
    tiny.train_here(
      workdir, tiny.TOY, 'seed=3', 'stages.distil.objective.c=0.2'
    )
  assert 'config.seed was 0, is 3' in str(error.value)
  with pytest.raises(ConfigError, match='train.steps was 2, is 1'):
    tiny.train_here(workdir, tiny.TOY, 'train.steps=1')


def test_only_the_length_may_grow(tmp_path):
  toy = (tiny.TOY, *tiny.UNMEASURED)
  tiny.train_here(tmp_path, *toy)
  tiny.train_here(tmp_path, *toy, 'stages.distil.train.steps=4')
  assert completed_steps(tmp_path / 'distil' / 'checkpoints')[-1] == 4
  with pytest.raises(ConfigError, match='distil would have to start'):
    tiny.train_here(
      tmp_path,
      *toy,
      'stages.flow.train.steps=3',
      'stages.distil.train.steps=4',
    )


BEST = (
  'stages.distil.evaluation.every=1',
  'stages.distil.train.steps=4',
  'checkpoint.keep=1',
  'stages.distil.checkpoint.best=student/flow_map_1/energy_distance',
)


def test_the_best_checkpoint_stays(tmp_path):
  tiny.train_here(tmp_path, tiny.TOY, *BEST)
  folder = tmp_path / 'distil'
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  name = BEST[-1].split('=')[1]
  figures = {row['step']: row[name] for row in rows if name in row}
  assert sorted(figures) == [1, 2, 3]
  best = min(figures, key=figures.__getitem__)
  assert completed_steps(folder / 'checkpoints') == [best, 4]


def test_an_evaluator_has_its_schedule_and_measures_what_is_held_out(tmp_path):
  evaluators = {
    'often': {'name': 'flow_loss', 'samples': 64},
    'seldom': {'name': 'straightness', 'samples': 64, 'steps': 2},
  }
  held = {'name': 'moons', 'size': 100, 'split': 'validation'}
  schedules = {'often': 2, 'seldom': 3}
  given = {'schedules': schedules, 'dataset': held}
  overrides = [
    f'stages.distil.evaluators={evaluators}',
    f'stages.distil.evaluation={given | {"batch_size": 64}}',
    'stages.distil.train.steps=7',
  ]
  tiny.train_here(tmp_path, tiny.TOY, *overrides)
  lines = (tmp_path / 'distil' / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert min(map(len, rows)) > 2  # no line is without a figure
  for name, steps in (('flow_loss', [2, 4, 6]), ('straightness', [3, 6])):
    assert [r['step'] for r in rows if f'student/{name}' in r] == steps
  for step, count in ((2, 1), (3, 1), (4, 1), (6, 2)):
    path = tmp_path / 'distil' / 'evaluations' / f'{step:08d}' / 'results.json'
    kept = json.loads(path.read_text())
    assert (len(kept), kept[0]['step']) == (count, step)
  results = json.loads((tmp_path / 'distil' / 'results.json').read_text())
  assert {'flow_loss', 'straightness'} <= {
    key for row in results for key in row
  }
  again = tiny.run(
    evaluate, tiny.stages(tiny.TOY, *overrides), tmp_path, evaluate.Options()
  )
  assert again[0]['flow_loss'] == results[0]['flow_loss']
  stages = tiny.stages(tiny.TOY, *overrides[:1], *overrides[2:])
  other = tiny.run(evaluate, stages, tmp_path, evaluate.Options())
  assert other[0]['flow_loss'] != results[0]['flow_loss']


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      {'schedules': {'energi': 1}},
      'schedules.energi has no effect: there is n',
    ),
    (
      {'dataset': 'digits'},
      r'evaluation.dataset must have examples as those of the stage, \[2\], '
      r'and has \[8, 8, 1\] with 10 classes. It is another data set, .digits',
    ),
  ],
)
def test_an_evaluation_that_cannot_be_is_refused(tmp_path, given, message):
  with pytest.raises(ConfigError, match=message):
    tiny.train_here(tmp_path, tiny.TOY, f'stages.distil.evaluation={given}')


def test_a_figure_that_nobody_measures_is_named(tmp_path):
  wrong = [BEST[-1].replace('map_1', 'map_3')]
  with pytest.raises(ConfigError, match="map_3.*' was not measured.*did you"):
    tiny.train_here(tmp_path, tiny.TOY, *BEST[:-1], *wrong)
  assert completed_steps(tmp_path / 'distil' / 'checkpoints') == [1]


def test_stages_take_weights_from_another_run(toy, tmp_path):
  flow = toy[0] / 'flow'
  resolved = tiny.stages(
    tiny.TOY,
    *tiny.UNMEASURED,
    f'stages.distil.init_from={flow}',
    f'stages.distil.frozen.teacher={flow}',
  )
  assembly = tiny.assembled(resolved['distil'], tmp_path / 'distil', tmp_path)
  assert assembly.references == {'teacher': f'{flow} at step 2'}
  with Checkpoints(tmp_path / 'none', keep=1) as none:
    state = first_state(assembly, none)
  mains = {
    name: array
    for name, array in tiny.arrays(flow).items()
    if '.emas.main.' in name
  }
  assert len(mains) == len(jax.tree.leaves(assembly.frozen['teacher']))
  for tree in (assembly.frozen['teacher'], state.roles['student'].params):
    for array, leaf in zip(mains.values(), jax.tree.leaves(tree), strict=True):
      np.testing.assert_array_equal(array, leaf)


def test_python_face_draws_the_same_as_the_job(toy, tmp_path):
  workdir, _ = toy
  run = flowdistill.load(workdir)
  x = run.sample(5, sampler='flow_map', nfe=2, seed=3)
  assert x.shape == (5, 2)
  options = generate.Options(nfe=2, samples=5, seed=3, out=str(tmp_path))
  made = tiny.run(generate, tiny.stages(tiny.TOY), workdir, options)
  assert made == [tmp_path]
  with np.load(tmp_path / 'samples.npz') as saved:
    np.testing.assert_array_equal(saved['x0'], x)
  teacher = run.sample(5, model='teacher', sampler='heun', nfe=3)
  assert np.isfinite(teacher).all()
  with pytest.raises(ConfigError, match="did you mean 'teacher'"):
    run.sample(1, model='techer')


def test_evaluate_repeats_the_figures_of_training(toy):
  workdir, rows = toy
  again = tiny.run(evaluate, tiny.stages(tiny.TOY), workdir, evaluate.Options())
  for old, new in zip(rows, again, strict=True):
    assert new['energy_distance'] == old['energy_distance']


def test_jobs_look_at_several_checkpoints(toy, tmp_path):
  """Each in a folder of its own; the last is that of the run."""
  workdir, _ = toy
  steps = completed_steps(workdir / 'distil' / 'checkpoints')
  stages = tiny.stages(tiny.TOY)
  rows = tiny.run(evaluate, stages, workdir, evaluate.Options(steps='all'))
  assert sorted({row['step'] for row in rows}) == steps
  options = generate.Options(
    samples=3, nfe=1, steps='1:', write='npz', out=str(tmp_path)
  )
  made = tiny.run(generate, stages, workdir, options)
  folders = [f'{step:08d}' for step in steps]
  assert [path.name for path in made] == folders
  assert sorted(path.name for path in tmp_path.iterdir()) == folders
  run = flowdistill.load(workdir)
  for step in steps:
    with np.load(tmp_path / f'{step:08d}' / 'samples.npz') as saved:
      there = run.at(step).sample(3, nfe=1)
      np.testing.assert_array_equal(saved['x0'], there)
  np.testing.assert_array_equal(there, run.sample(3, nfe=1))
  with pytest.raises(ConfigError, match='--write=grid: examples .2. are no im'):
    tiny.run(generate, stages, workdir, generate.Options(write='grid'))
  with pytest.raises(ConfigError, match='--write=grid,pgn: did you mean .png'):
    generate.Options(write='grid,pgn')
  with pytest.raises(ConfigError, match='no checkpoint of --steps=77'):
    tiny.run(evaluate, stages, workdir, evaluate.Options(steps='77'))


def test_an_evaluation_fills_a_table(toy):
  """Each combination is a row; a teacher has no other weights."""
  workdir, _ = toy
  stages = tiny.stages(tiny.TOY)
  options = evaluate.Options(
    model=('student', 'teacher'),
    weights=('ema', 'params'),
    sampler=('euler',),
    nfe=(1, 2),
    grid=(None, 'shifted'),
  )
  rows = tiny.run(evaluate, stages, workdir, options)
  ways = [
    (row['model'], row.get('weights'), row.get('options'), row['nfe'])
    for row in rows
    if 'energy_distance' in row
  ]
  grids = None, 'grid=shifted'
  assert ways == [
    (model, weights, grid, nfe)
    for model, weights in [
      *[('student', None), ('teacher', None), ('student', 'params')]
    ]
    for grid in grids
    for nfe in (1, 2)
  ]
  figures = {row['energy_distance'] for row in rows if 'energy_distance' in row}
  assert len(figures) == 6  # one step is the same on every grid
  folder = workdir / 'distil' / 'evaluations' / '00000002'
  there = read_rows(folder / 'results.json')
  assert all(row in there for row in rows)
  alone = dataclasses.replace(options, model=('student',), weights=('params',))
  again = tiny.run(evaluate, stages, workdir, alone)
  assert [timeless(row) for row in again] == [timeless(r) for r in rows[-4:]]


def timeless(row):
  return {key: value for key, value in row.items() if key != 'ms_per_image'}


def test_samples_in_batches_are_those_of_python(toy, tmp_path):
  """Also those of the default classes; then fewer take their place."""
  workdir, _ = toy
  stages = tiny.stages(tiny.TOY)
  out = tmp_path / 'out'
  size = stages['distil']['evaluation']['batch_size']
  n = 2 * size + 3
  options = generate.Options(samples=n, nfe=1, seed=3, out=str(out))
  tiny.run(generate, stages, workdir, options)
  run = flowdistill.load(workdir)
  with np.load(out / 'samples.npz') as saved:
    np.testing.assert_array_equal(saved['x0'], run.sample(n, nfe=1, seed=3))
  tiny.run(generate, stages, workdir, dataclasses.replace(options, samples=2))
  with np.load(out / 'samples.npz') as saved:
    np.testing.assert_array_equal(saved['x0'], run.sample(2, nfe=1, seed=3))
  record = json.loads((out / 'generated.json').read_text())
  assert (record['samples'], record['seed'], record['step']) == (2, 3, 2)
  assert record['files'] == {'samples.npz': 1}
  (out / 'notes.txt').write_text('mine')
  with pytest.raises(ConfigError, match='there is notes.txt in it, which this'):
    tiny.run(generate, stages, workdir, options)


def test_a_call_that_is_stopped_leaves_what_was_there(
  toy, tmp_path, monkeypatch, capsys
):
  workdir, _ = toy
  stages = tiny.stages(tiny.TOY)
  size = stages['distil']['evaluation']['batch_size']
  options = generate.Options(samples=2 * size, nfe=1, out=str(tmp_path / 'out'))
  tiny.run(generate, stages, workdir, dataclasses.replace(options, samples=2))
  before = (tmp_path / 'out' / 'samples.npz').read_bytes()
  monkeypatch.setattr(generate.Stop, 'asked', lambda self: True)
  with pytest.raises(SystemExit) as raised:
    tiny.run(generate, stages, workdir, options)
  assert raised.value.code == os.EX_TEMPFAIL
  assert f'stopped; {tmp_path / "out"} is as it was' in capsys.readouterr().out
  assert (tmp_path / 'out' / 'samples.npz').read_bytes() == before
  assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_jobs_leave_out_a_checkpoint_that_is_removed(
  toy, tmp_path, monkeypatch, caplog
):
  """Between the moment that it is listed and the moment that it is read."""
  workdir, _ = toy
  stages = tiny.stages(tiny.TOY)
  for job in (evaluate, generate):
    monkeypatch.setattr(job, 'chosen', lambda *_, **__: iter([1, 2]))
  rows = tiny.run(evaluate, stages, workdir, evaluate.Options(steps='all'))
  assert {row['step'] for row in rows} == {2}
  options = generate.Options(steps='all', write='npz', out=str(tmp_path))
  tiny.run(generate, stages, workdir, options)
  assert [path.name for path in tmp_path.iterdir()] == ['00000002']
  assert caplog.text.count('step 1 is skipped') == 2


def test_evaluate_takes_another_sampler(toy):
  workdir, _ = toy
  options = evaluate.Options(model=('teacher',), sampler=('heun',), nfe=(5,))
  (row,) = tiny.run(evaluate, tiny.stages(tiny.TOY), workdir, options)
  assert (row['model'], row['sampler'], row['nfe']) == ('teacher', 'heun', 5)


def test_a_number_that_is_not_finite_stops_the_run_and_names_the_module(
  tmp_path, monkeypatch, capsys
):
  """The network divides by zero where a layer's output passes a threshold."""
  from flowdistill.networks import embeddings

  silu = embeddings.TimeEmbedding.__call__

  def broken(self, t):
    return silu(self, t) / (t != t.max())[:, None]

  monkeypatch.setattr(embeddings.TimeEmbedding, '__call__', broken)
  with pytest.raises(failure.Halted, match='step 1: .*student.times.of_t'):
    tiny.train_here(tmp_path, tiny.TOY)
  assert not completed_steps(tmp_path / 'flow' / 'checkpoints')
  assert (tmp_path / 'flow' / 'failure' / 'batch.npz').is_file()
  answer = tiny.run(replay, tiny.stages(tiny.TOY), tmp_path, replay.Options())
  assert 'step 1: the first that is not finite is the output of' in answer
  assert 'student.times.of_t' in answer
  (batch,) = tmp_path.rglob('batch.npz')
  batch.write_bytes(batch.read_bytes()[:-40])
  with pytest.raises(DamagedFileError, match='batch.npz is damaged'):
    tiny.run(replay, tiny.stages(tiny.TOY), tmp_path, replay.Options())


@pytest.mark.parametrize('peak', [1e12, None])
def test_utilisation_is_said_where_the_peak_is_known(
  tmp_path, monkeypatch, capsys, peak
):
  """Never in the metrics, which are a function of the config alone."""
  monkeypatch.setattr(cost, 'peak_of', lambda kind: peak)
  spec = tiny.stages(tiny.TOY, 'stages.flow.train.steps=3')['flow']
  tiny.run(train, {'flow': spec}, tmp_path, train.Options())
  last = capsys.readouterr().out.split('flow 3/3')[1].splitlines()[0]
  assert ('% MFU' in last) == (peak is not None)
  assert '% for data' in last
  assert 'mfu' not in (tmp_path / 'flow' / 'metrics.jsonl').read_text().lower()
