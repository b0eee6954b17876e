"""A stage is bound once, its networks are shaped once, its data opened once."""

import json
import pathlib
import shutil
from collections import Counter

import numpy as np
import pytest
from jobs import tiny
from PIL import Image

import flowdistill
from flowdistill.build import blueprint as blueprint_module
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.datasets.tree import Tree
from flowdistill.jobs import evaluate, generate, plan, train
from flowdistill.stages import blueprints as blueprints_module
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import KINDS, check_stages
from flowdistill.training.checkpoint import completed_steps

QUICKSTART = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'
SMALL = {'width': 8, 'depth': 1, 'heads': 1}


@pytest.fixture
def calls(monkeypatch):
  """Counts stages that are bound, networks that are shaped, folders walked."""
  found = Counter()

  def counted(module, name):
    f = getattr(module, name)

    def wrapped(*args, **kwargs):
      found[name] += 1
      return f(*args, **kwargs)

    monkeypatch.setattr(module, name, wrapped)

  counted(blueprint_module, 'bind_stage')
  counted(blueprints_module, 'shape_model')
  walk = Tree.__init__

  def walked(self, path):
    found['walk'] += 1
    walk(self, path)

  monkeypatch.setattr(Tree, '__init__', walked)
  return found


def pictures(folder, classes=('cat', 'dog'), n=6):
  """A folder with one folder of small pictures for each class."""
  rng = np.random.default_rng(0)
  for name in classes:
    (folder / name).mkdir(parents=True)
    for i in range(n):
      pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(folder / name / f'{i}.png')
  return folder


def on_pictures(folder):
  """Overrides of the quickstart."""
  dataset = {'name': 'folder', 'path': str(folder), 'size': 8, 'by_class': True}
  return (
    f'dataset={dataset}',
    'evaluation.features=none',
    "stages.distil.evaluators={'pictures': {'name': 'pictures'}}",
    "stages.distil.evaluation.dataset={'name': 'folder', 'path': "
    f"'{folder}', 'size': 8, 'by_class': True, 'split': 'all'}}",
  )


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of the pictures, and the workdir of a run on them."""
  home = tmp_path_factory.mktemp('recorded')
  folder = pictures(home / 'pictures')
  tiny.train_here(home / 'run', QUICKSTART, *on_pictures(folder))
  return folder, home / 'run'


@pytest.mark.slow
def test_in_a_run_of_train_everything_is_made_once(tmp_path, calls):
  folder = pictures(tmp_path / 'pictures')
  tiny.train_here(tmp_path / 'run', QUICKSTART, *on_pictures(folder))
  assert calls == {'bind_stage': 2, 'shape_model': 1, 'walk': 1}


def test_a_job_makes_what_it_needs(run, calls):
  workdir = run[1]
  blueprints = Blueprints.of_run(workdir)
  check_stages(blueprints)
  evaluate.run(blueprints, evaluate.Options())
  assert (calls['bind_stage'], calls['shape_model']) == (2, 1)
  assert calls['walk'] <= 1


@pytest.fixture
def moved(run, tmp_path):
  """A run whose pictures are gone."""
  folder, workdir = run
  shutil.copytree(workdir, tmp_path / 'run')
  folder.rename(folder.with_name('elsewhere'))
  yield tmp_path / 'run'
  folder.with_name('elsewhere').rename(folder)


def drawn(blueprints, options):
  """What the job writes."""
  (out,) = generate.run(blueprints, options)
  with np.load(out / 'samples.npz') as saved:
    return saved['x0']


def test_a_run_of_before_knows_its_data(moved, tmp_path):
  """Its record lacks the options that are newer than it."""
  path = moved / 'distil' / 'config.json'
  record = json.loads(path.read_text())
  del record['config']['dataset']['class_order']
  path.write_text(json.dumps(record))
  options = generate.Options(samples=2, nfe=1, out=str(tmp_path / 'out'))
  assert drawn(Blueprints.of_run(moved), options).shape == (2, 8, 8, 3)


def test_a_run_knows_its_data(moved, tmp_path):
  """Sampling, plans and what needs no example work without the pictures."""
  loaded = flowdistill.load(moved)
  assert loaded.source.spec.classes == ('cat', 'dog')
  assert loaded.sample(3, nfe=1, label=1).shape == (3, 8, 8, 3)
  with pytest.raises(
    ValueError, match='label = 3 must be an integer in 0 to 1'
  ):
    loaded.sample(3, nfe=1, label=3)
  blueprints = Blueprints.of_run(moved)
  check_stages(blueprints)
  options = generate.Options(samples=2, nfe=1, out=str(tmp_path / 'out'))
  assert drawn(blueprints, options).shape == (2, 8, 8, 3)
  assert [
    r['stage'] for r in plan.run(blueprints, plan.Options(devices=1))
  ] == [
    'flow',
    'distil',
  ]
  assert evaluate.run(blueprints, evaluate.Options()) == []  # it draws pictures
  assert list((moved / 'distil' / 'evaluations').glob('*/samples/*.png'))
  with pytest.raises(ValueError, match='pictures'):
    loaded.source[0]


def test_what_needs_the_pictures_names_their_folder(run, moved):
  loss = "stages.distil.evaluators={'loss': {'name': 'flow_loss'}}"
  specs = tiny.stages(QUICKSTART, *on_pictures(run[0]), loss)
  blueprints = Blueprints(specs, moved)
  check_stages(blueprints)
  with pytest.raises(ConfigError, match=r'pictures.*does not exist'):
    evaluate.run(blueprints, evaluate.Options())


def test_other_held_out_examples_are_looked_at_all_the_same(run):
  folder, workdir = run
  other = 'stages.distil.evaluation.dataset=moons'
  specs = tiny.stages(QUICKSTART, *on_pictures(folder), other)
  with pytest.raises(ConfigError, match='evaluation.dataset'):
    check_stages(Blueprints(specs, workdir))


def test_a_renamed_class_is_refused_on_resume(run):
  folder, workdir = run
  longer = (*on_pictures(folder), 'stages.distil.train.steps=3')
  (folder / 'dog').rename(folder / 'hound')
  try:
    with pytest.raises(ConfigError) as error:
      tiny.train_here(workdir, QUICKSTART, *longer)
  finally:
    (folder / 'hound').rename(folder / 'dog')
  assert "gone are ['dog']; new are ['hound']" in str(error.value)
  assert completed_steps(workdir / 'distil' / 'checkpoints') == [2]


def test_an_added_class_is_refused_on_resume(run):
  folder, workdir = run
  pictures(folder, ['bird'])
  try:
    with pytest.raises(ConfigError, match=r"new are \['bird'\]"):
      tiny.train_here(workdir, QUICKSTART, *on_pictures(folder))
  finally:
    shutil.rmtree(folder / 'bird')


def test_frozen_roles_of_one_reference_share_their_weights():
  overrides = "stages.distil.frozen.weak={'source': 'stage:flow'}"
  specs = tiny.stages(QUICKSTART, overrides)
  blueprint = Blueprints(specs, pathlib.Path('nowhere'))['distil']
  assert blueprint.roles['weak'].base == 'teacher'
  assert list(blueprint.frozen) == ['teacher']
  assert blueprint.roles['weak'].model is blueprint.roles['teacher'].model
  other = tiny.stages(QUICKSTART)
  apart = Blueprints(other, pathlib.Path('nowhere'))['distil']
  assert sorted(apart.frozen) == ['teacher', 'weak']


@pytest.mark.slow
def test_a_student_outlives_its_teacher(tmp_path):
  """Of a run whose teacher is gone, the student is drawn and referred to."""
  small = ('stages.distil.evaluators={}', 'evaluation.features=none')
  tiny.train_here(tmp_path / 'old', QUICKSTART, *small)
  teacher = tmp_path / 'old' / 'flow'
  apart = (
    f'stages.distil.frozen={{"teacher": "{teacher}", "weak": "{teacher}"}}'
  )
  tiny.train_here(tmp_path / 'new', QUICKSTART, *small, apart)
  shutil.rmtree(tmp_path / 'old')
  options = generate.Options(samples=2, nfe=1, out=str(tmp_path / 'out'))
  blueprints = Blueprints.of_run(tmp_path / 'new')
  assert drawn(blueprints, options).shape == (2, 8, 8, 1)
  student = f'stages.flow.init_from={tmp_path / "new" / "distil"}'
  specs = tiny.stages(QUICKSTART, *small, student)
  fresh = Blueprints(specs, tmp_path / 'third')['flow']
  assert fresh.weights('student').stage.folder == tmp_path / 'new' / 'distil'


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ("{'source': 'stage:flow', 'role': 'critic'}", "trains no role 'critic'"),
    ('stage:flw', 'must be an earlier stage that trains; did you mean'),
    ('flow', 'must be an earlier stage that trains'),
    ('runs/none', 'must be the folder of a run'),
    ("{'source': 'stage:flow', 'weights': 'late'}", "has no weights 'late'"),
    (
      "{'source': 'stage:flow', 'lora': 'a.safetensors'}",
      r"lora = 'a\.safetensors' has no effect: .*'stage:flow', is no folder of",
    ),
  ],
)
def test_a_reference_to_nothing_names_its_key(override, message):
  specs = tiny.stages(QUICKSTART, f'stages.distil.frozen.teacher={override}')
  with pytest.raises(ConfigError, match=message) as error:
    tiny.check_here(specs, pathlib.Path('nowhere'))
  assert 'config.stages.distil.frozen.teacher' in str(error.value)


def test_a_role_that_is_read_from_a_file_takes_no_lora(tmp_path):
  blueprints = Blueprints({}, tmp_path)
  reference = Reference('x.safetensors', lora='a.safetensors')
  with pytest.raises(ConfigError, match=r'perceptual\.lora = .* has no effect'):
    blueprints.weights('perceptual', reference, 'frozen.perceptual')


def test_kinds_are_rows():
  assert list(KINDS) == ['train', 'pairs', 'encode']
  for kind in KINDS.values():
    assert all(callable(f) for f in (kind.check, kind.make, kind.tiny))


def test_train_options_reach_the_stage(tmp_path):
  blueprints = tiny.check_here(tiny.stages(tiny.TOY), tmp_path)
  train.run(blueprints, train.Options(stage='flow', profile=1))
  assert not (tmp_path / 'distil').exists()
