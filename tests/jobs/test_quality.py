"""quality, as its documentation shows it."""

import ast
import json
import pathlib
import re

import numpy as np
import pytest
from build.test_measured import weights
from jobs import hosts, tiny
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

import flowdistill
from flowdistill.build.tables import ROOMS
from flowdistill.build.tuning import TRIED
from flowdistill.config.bind import ConfigError
from flowdistill.config.protocols import Dataset
from flowdistill.config.resolve import resolve
from flowdistill.evaluators.sweep import format_options
from flowdistill.figures.best import HELD_OUT
from flowdistill.jobs import evaluate, evaluate_images, generate
from flowdistill.stages import provenance
from flowdistill.stages.blueprints import Blueprints
from flowdistill.workdir.presets import read_presets

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


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The quickstart, tiny, by code that is known also in a changed checkout."""
  workdir = tmp_path_factory.mktemp('run')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(provenance, 'revision', lambda: '1.0')
    tiny.train_here(workdir, f'{tiny.CONFIGS / "quickstart.py"}:runlocal')
  return workdir


def measure(workdir, **options):
  given = {'features': ('digits',), 'samples': 60, 'sets': 2, 'real': 200}
  options = evaluate.Options(**{**given, **options})
  return evaluate.run(Blueprints.of_run(workdir), options)


@pytest.mark.slow
def test_one_command_fills_a_table(run):
  rows = measure(
    run,
    model=('student', 'teacher'),
    nfe=(2, 4),
    guidance=(None, 1.5),
    metrics=('frechet', {'name': 'precision_recall', 'k': 2}),
  )
  teacher = [row for row in rows if row['model'] == 'teacher']
  assert len(rows) == 8
  assert {row.get('options') for row in teacher} == {None, 'guidance=1.5'}
  for row in rows:
    assert row['frechet_digits_bias'] > 0
    assert row['metrics'] == 'precision_recall k=2'
    assert row['reference'] == 'digits, 200'
    assert (row['dtype'], row['uint8']) == ('float32', 'none')
  assert not list(run.rglob('blocks'))
  assert (run / 'references').is_dir()


@pytest.mark.slow
def test_statistics_and_images_take_the_place_of_the_data(run, tmp_path):
  pixels = (load_digits().images * 255 / 16).round().astype(np.uint8)
  np.savez(tmp_path / 'real.npz', arr_0=pixels[:200, ..., None])
  out = tmp_path / 'statistics.npz'
  evaluate_images.run(
    evaluate.Options(
      of=str(tmp_path / 'real.npz'), features=('digits',), out=str(out)
    )
  )
  found = {}
  for name in ('real.npz', 'statistics.npz'):
    blueprints = Blueprints.of_run(run)
    for spec in blueprints.specs.values():
      spec['evaluation']['reference'] = str(tmp_path / name)
    options = evaluate.Options(
      features=('digits',), samples=60, model=('student',)
    )
    (row,) = evaluate.run(blueprints, options)
    assert row['reference'].startswith(name)
    found[name] = row['frechet_digits']
  assert found['real.npz'] == pytest.approx(found['statistics.npz'], rel=1e-5)


@pytest.mark.slow
def test_the_best_of_each_nfe_becomes_a_preset(run, tmp_path):
  rows = measure(run, tune=('nfe', 'gamma'), nfe=(2, 4))
  assert {row['seed'] for row in rows} == {HELD_OUT}
  assert len(rows) == 2 * len(TRIED['gamma'])
  folder = run / 'distil'
  for preset in read_presets(folder):
    equal = [r for r in rows if r['nfe'] == preset.nfe]
    best = min(equal, key=lambda row: row['frechet_digits'])
    assert preset.value == best['frechet_digits']
    how = preset.sampler, format_options(preset.options)
    assert how == (best['sampler'], best.get('options', ''))
  assert [p.nfe for p in read_presets(folder)] == [2, 4]
  options = generate.Options(
    samples=3, preset=4, write='npz', out=str(tmp_path / 'out')
  )
  generate.run(Blueprints.of_run(run), options)
  found = np.load(tmp_path / 'out' / 'samples.npz')
  loaded = flowdistill.load(run)
  expected = loaded.sample(3, **loaded.preset(4))
  np.testing.assert_allclose(found[found.files[0]], expected, atol=1e-6)
  with pytest.raises(ConfigError, match="chosen for weights = 'ema', and must"):
    flowdistill.load(run, weights='params').preset(4)


BAD = {
  'metrics.clip_score needs pairs': {'metrics': ('clip_score',)},
  "takes no 'kk'": {'metrics': ({'name': 'precision_recall', 'kk': 3},)},
  'must be at least 61 for metrics.kernel': {
    'metrics': ({'name': 'kernel', 'size': 61},)
  },
  'name = .digit. does not exist; did you mean': {'features': ('digit',)},
  "path = '' must be the file of vgg16's weights": {'features': ('vgg16',)},
  'sets = -1 must be at least 1': {'sets': -1},
}


@pytest.mark.slow
@pytest.mark.parametrize('message', BAD)
def test_what_does_not_fit_is_refused(run, message):
  with pytest.raises(ConfigError, match=message):
    measure(run, **BAD[message])


@pytest.mark.slow
def test_fid_of_every_checkpoint_by_one_step_and_rk45(run, tmp_path):
  """As the evaluation of SlimFlow; of random weights of InceptionV3."""
  path = tmp_path / 'inception.safetensors'
  save_file(weights(), path)
  rows = measure(
    run,
    stage='flow',
    model=('student',),
    steps='all',
    sampler=('euler', 'rk45'),
    nfe=(1, None),
    features=({'name': 'inception', 'path': str(path)},),
    metrics=('frechet', 'spatial_frechet', 'inception_score'),
    samples=12,
    sets=1,
    real=12,
  )
  assert [row['sampler'] for row in rows] == ['euler', 'rk45']
  for row in rows:
    assert row['fid'] > 0
    assert row['sfid'] > 0
    assert row['inception_score'] >= 1
    assert row['resize'] == 'tf_bilinear'
    assert len(row['weights_sha256']) == 64


@pytest.mark.slow
def test_two_hosts_measure_the_same_as_one_to_the_byte(run):
  """Each takes the features of its own rows, and both make one table."""
  results = run / 'distil' / 'evaluations' / '00000002' / 'results.json'
  words = ['--job=evaluate', '--model=student', '--nfe=1,2', '--sets=2']
  words += ['--metrics=frechet,precision_recall', '--samples=70', '--real=90']
  config = f'{tiny.CONFIGS / "quickstart.py"}:runlocal'
  found = []
  for count in (1, 2):
    results.unlink(missing_ok=True)
    processes = (
      hosts.start_all(run, config, *words, count=2)
      if count == 2
      else [hosts.start(run, config, 2, *words)]
    )
    for code, _, error in hosts.end_all(processes, 300):
      assert code == 0, error
    found.append(json.loads(results.read_text()))
  assert found[0] == found[1]
  assert len(found[0]) == 2


@pytest.mark.slow
def test_several_networks_and_their_ratio(run):
  """One pass over the samples; the held-out examples are the unit."""
  blueprints = Blueprints.of_run(run)
  held_out = {'name': 'arrays', 'path': str(run / 'held_out.npz')}
  digits = load_digits()
  np.savez(
    run / 'held_out.npz',
    x0=(digits.images[:300, ..., None] / 8 - 1).astype(np.float32),
    label=digits.target[:300].astype(np.int32),
  )
  for spec in blueprints.specs.values():
    held = {**held_out, 'by_class': True}
    spec['evaluation']['validation'] = resolve(held, Dataset, '', ROOMS)
  options = evaluate.Options(
    features=('digits', 'emoji'), samples=60, sets=2, model=('student',)
  )
  first, second, ratio = evaluate.run(blueprints, options)
  assert (first['features'], second['features']) == ('digits', 'emoji')
  assert first['frechet_digits'] > 0
  assert second['frechet_emoji'] > 0
  assert ratio['features'] == 'digits, emoji'
  assert ratio['frechet_ratio'] > 1
  assert ratio['validation'] == 'arrays, 300'
  assert ratio['weights_sha256'] == (
    f'{first["weights_sha256"]}, {second["weights_sha256"]}'
  )
