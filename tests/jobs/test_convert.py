"""Weights of PyTorch as runs, and runs as such weights."""

import dataclasses
import functools
import hashlib
import json
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest
from jobs import tiny
from safetensors.numpy import load_file, save_file

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.convert import CONVERTERS
from flowdistill.jobs import JOBS, convert, generate, train
from flowdistill.stages import conversion
from flowdistill.stages.assembly import generators
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.conversion import LABEL
from flowdistill.stages.job_options import parse_options
from flowdistill.training.named_arrays import by_name
from flowdistill.workdir.record import load_data, load_spec

NETWORKS = {
  'ncsnpp': {'nf': 8, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
  'adm': {'nf': 32, 'res_blocks': 1, 'ch_mult': (1,), 'attention': ()},
}


def config(folder, name, **more):
  """A config of one stage with that network, on the digits."""
  stage = {
    'dataset': 'digits',
    'network': {'name': name, **NETWORKS[name]},
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': 4},
    'ema': {'main': {'half_life': {'steps': 9}}},
    **more,
  }
  path = folder / f'{name}.py'
  path.write_text(f'def get_config(arg=""):\n  return {stage!r}\n')
  return path


def foreign(spec):
  """Random weights by the names of the original, and ours of the same."""
  here = pathlib.Path('nowhere')
  model = tiny.blueprint(spec, here, here).roles['student'].model
  rng = np.random.default_rng(0)
  ours = {
    name: 0.1 * rng.standard_normal(x.shape).astype(np.float32)
    for name, x in by_name(model.params).items()
  }
  theirs = CONVERTERS[spec['network']['name']].to_torch(ours, 8)
  return theirs, ours


def stages_of(folder, name, **more):
  return tiny.stages(config(folder, name, **more))


@pytest.fixture(
  scope='module',
  params=['ncsnpp', pytest.param('adm', marks=pytest.mark.slow)],
)
def converted(request, tmp_path_factory):
  """(stages, arrays of the file, ours, the run, what was said of it)."""
  folder = tmp_path_factory.mktemp(request.param)
  stages = stages_of(folder, request.param)
  theirs, ours = foreign(stages['run'])
  learnt = [array for name, array in theirs.items() if 'resample' not in name]
  averages = {f'ema.shadow_params.{i}': 2 * a for i, a in enumerate(learnt)}
  file, to = folder / 'weights.npz', folder / 'run'
  named = {f'model.module.{name}': array for name, array in theirs.items()}
  np.savez(file, **named, **averages)
  options = convert.Options(from_=str(file), to=str(to))
  return stages, theirs, ours, to, tiny.run(convert, stages, folder, options)


def test_the_checkpoint_has_the_arrays_of_the_file(converted):
  _, _, ours, to, made = converted
  for weights, factor in (('params', 1), ('ema', 2)):
    model = flowdistill.load(to, weights=weights).models['student']
    for name, array in by_name(model.params).items():
      if name not in made.ours_alone:
        np.testing.assert_array_equal(array, factor * ours[name], err_msg=name)
      elif name.startswith(LABEL):
        assert not np.any(array)  # they know no classes, and are told none


def test_it_says_what_it_read_and_how_well_it_runs(converted):
  _, theirs, _, to, made = converted
  file = to.parent / 'weights.npz'
  said = json.loads((to / 'conversion.json').read_text())
  assert said['sha256'] == hashlib.sha256(file.read_bytes()).hexdigest()
  assert said['arrays'] == len([n for n in theirs if 'resample' not in n])
  assert said['averages']
  prefixes = {'params': ['model.module.'], 'ema': ['ema.shadow_params.']}
  assert said['prefixes'] == prefixes
  grid = {'name': 'uniform', 'start': 0.999}
  assert load_spec(to)['evaluation']['grid'] == grid
  assert 'arrays below model.module. and their EMA weights below' in str(made)
  assert 0 < said['largest_error'] < 1e-4 < said['largest_velocity']
  assert all(n.startswith(('times.of_s', LABEL)) for n in made.ours_alone)
  assert not list(to.parent.glob('*.part'))


def test_it_can_be_sampled_and_checked(converted):
  *_, to, _ = converted
  run = flowdistill.load(to)
  assert run.sample(2, sampler='euler', nfe=1).shape == (2, 8, 8, 1)
  tiny.check_here({'run': load_spec(to)}, to)


@pytest.mark.slow
def test_samples_start_where_the_original_starts(converted):
  *_, to, _ = converted
  run = flowdistill.load(to)
  draw = functools.partial(run.sample, 2, sampler='euler', nfe=1)
  x, exact = draw(), {'name': 'explicit', 'times': (0.999, 0.0)}
  np.testing.assert_array_equal(x, draw(grid=exact))
  typed = draw(grid='uniform')
  assert np.any(x != typed)
  how = {'samples': 2, 'sampler': 'euler', 'nfe': 1, 'write': 'npz'}
  specs = {'run': load_spec(to)}
  for grid, expected in ((None, x), ('uniform', typed)):
    options = generate.Options(**how, grid=grid, out=str(to / 'out'))
    (folder,) = tiny.run(generate, specs, to, options)
    with np.load(folder / 'samples.npz') as saved:
      np.testing.assert_array_equal(saved['x0'], expected)
  # Generators of an evaluation, and of a stage that has it as its teacher.
  stage = tiny.assembled(specs['run'], to, to)
  assert generators(stage, {'student': None})['student'].grid['start'] == 0.999


@pytest.mark.parametrize('ending', ['.npz', '.safetensors'])
def test_the_way_back_is_the_file_to_the_byte(converted, tmp_path, ending):
  stages, theirs, _, run, _ = converted
  to = tmp_path / f'back{ending}'
  tiny.run(convert, stages, run, convert.Options(to=str(to), weights='params'))
  read = load_file if ending == '.safetensors' else lambda p: dict(np.load(p))
  back = read(to)
  assert back.keys() == theirs.keys()
  for name, array in theirs.items():
    assert back[name].tobytes() == array.tobytes(), name


@pytest.mark.slow
def test_a_stage_starts_from_it(tmp_path):
  """One step at next to no rate leaves its weights."""
  stages = stages_of(tmp_path, 'ncsnpp')
  theirs, ours = foreign(stages['run'])
  whole = {name: np.ascontiguousarray(a) for name, a in theirs.items()}
  save_file(whole, tmp_path / 'w.safetensors')
  to = tmp_path / 'run'
  options = convert.Options(from_=str(tmp_path / 'w.safetensors'), to=str(to))
  tiny.run(convert, stages, tmp_path, options)
  still = {'schedule': {'name': 'constant', 'learning_rate': 1e-30}}
  later = stages_of(tmp_path, 'ncsnpp', init_from=str(to), optim=still)
  tiny.run(train, later, tmp_path / 'later', train.Options())
  params = flowdistill.load(tmp_path / 'later').models['student'].params
  found = jax.device_get(by_name(params))
  np.testing.assert_array_equal(found['first.kernel'], ours['first.kernel'])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'from_': 'a.npz'}, '--to is missing'),
    (
      {'to': 'a.pth'},
      r'--to=a\.pth must end in \.safetensors or .*without --from',
    ),
    ({'to': '.', 'from_': 'a.npz'}, r'--to=\. must not exist'),
    (
      {'to': 'b.pth', 'from_': 'a.npz'},
      '--to=b.pth must be a folder: with --from .* take --to=b. To write a',
    ),
    ({'to': 'b.safetensors', 'from_': 'a.npz'}, 'must be a folder: with'),
    ({'to': 'b.PTH', 'from_': 'a.npz'}, 'must be a folder: with'),
    ({'to': 'b', 'from_': 'a', 'weights': 'params'}, 'no effect with --from'),
    ({'to': 'b.npz', 'shape': (8, 8, 1)}, '--shape needs --from'),
    ({'to': 'b', 'from_': 'a', 'classes': 3}, '--classes needs --shape'),
    (
      {'to': 'b.npz', 'pipeline': 'a'},
      '--to=b.npz must be a folder, whose name has no end: with --pipeline=a',
    ),
    (
      {'to': 'b', 'pipeline': 'a', 'from_': 'c'},
      '--pipeline=a has no effect with --from',
    ),
    ({'to': 'b', 'nfe': 2}, '--nfe=2 needs --pipeline, which records it'),
    ({'to': 'b', 'guidance': 2.0}, '--guidance=2.0 needs --pipeline'),
    ({'to': 'b', 'pipeline': 'a', 'nfe': 0}, '--nfe=0 must be at least 1'),
    (
      {'to': 'b', 'from_': 'a', 'shape': (8, 0, 1)},
      '--shape=8,0,1 --classes=0 must be positive',
    ),
  ],
)
def test_options_that_cannot_be_raise(options, message):
  with pytest.raises(ConfigError, match=message):
    convert.Options(**options)


def test_a_pipeline_of_the_hub_is_asked_for_by_its_commit():
  options = convert.Options(to='b', pipeline='hub:a/b@main', nfe=2)
  with pytest.raises(ValueError, match="'hub:a/b@main' must be hub:OWNER/NAME"):
    convert.pipeline_of(options)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda a: a.pop(min(a)), 'these weights of NCSN.* have no '),
    (lambda a: a.update({'all_modules.99.W': a[min(a)]}), 'has no such array'),
    (lambda a: a.update({min(a): np.zeros((1, 2))}), 'of shape'),
    (
      lambda a: a.update({min(a): np.full_like(a[min(a)], np.nan)}),
      r'w\.npz: all_modules\.0.* that are NaN',
    ),
    (
      lambda a: a.update({f'model.{n}': a[n] for n in [*a]}),
      r'w\.npz: .* appears twice, as .* and as model\.all_modules',
    ),
    (
      lambda a: [a.update({f'disc.{n}': a.pop(n)}) for n in [*a]],
      r'w\.npz has no weights of NCSN.*its arrays are disc\..*, and \d+ others',
    ),
  ],
)
def test_other_weights_are_refused_and_nothing_is_written(
  tmp_path, change, message
):
  stages = stages_of(tmp_path, 'ncsnpp')
  theirs, _ = foreign(stages['run'])
  change(theirs)
  np.savez(tmp_path / 'w.npz', **theirs)
  options = convert.Options(
    from_=str(tmp_path / 'w.npz'), to=str(tmp_path / 'run')
  )
  with pytest.raises(ConfigError, match=message):
    tiny.run(convert, stages, tmp_path, options)
  assert not list(tmp_path.glob('run*'))


@pytest.mark.slow
def test_the_data_need_not_be_there(tmp_path, monkeypatch):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  for i in range(4):
    PIL.Image.new('L', (8, 8), 9 * i).save(folder / f'{i}.png')
  data = {'name': 'folder', 'path': str(folder), 'size': 8, 'channels': 1}
  stages = stages_of(tmp_path, 'ncsnpp', dataset=data)
  theirs, _ = foreign(stages['run'])
  np.savez(tmp_path / 'w.npz', **theirs)
  monkeypatch.setattr(conversion, 'compare', lambda *_: (0.0, 1.0))
  folder.rename(tmp_path / 'moved')
  new = tmp_path / 'new'
  options = convert.Options(from_=str(tmp_path / 'w.npz'), to=str(new))
  tiny.run(convert, stages, tmp_path / 'none', options)
  # Back, and from a run whose data are recorded.
  of_run = Blueprints.of_run(new)
  back = convert.Options(to=str(tmp_path / 'back.npz'), weights='params')
  convert.run(of_run, back)
  with np.load(tmp_path / 'back.npz') as arrays:
    assert all(np.array_equal(arrays[n], a) for n, a in theirs.items())
  by_class = stages_of(tmp_path, 'ncsnpp', dataset={**data, 'by_class': True})
  again = dataclasses.replace(options, to=str(tmp_path / 'again'))
  with pytest.raises(ValueError, match='pictures.* --shape=32,32,3, and'):
    tiny.run(convert, by_class, tmp_path / 'none', again)
  shaped = dataclasses.replace(again, shape=(8, 8, 1), classes=2)
  tiny.run(convert, by_class, tmp_path / 'none', shaped)
  assert load_data(tmp_path / 'again').spec.num_classes == 2


def test_a_stage_is_named_that_trains(tmp_path):
  stages = stages_of(tmp_path, 'ncsnpp')
  options = convert.Options(stage='runn', from_='a.npz', to=str(tmp_path / 'b'))
  with pytest.raises(ConfigError, match="--stage=runn must .* mean 'run'"):
    tiny.run(convert, stages, tmp_path, options)


@pytest.mark.slow
def test_the_command_opens_no_data_set(tmp_path):
  source = f'{tiny.CONFIGS / "slimflow" / "distil.py"}:cifar10,7m'
  missing, to = tmp_path / 'no.pth', tmp_path / 'run'
  options = (f'from={missing}', f'to={to}')
  process = tiny.start('', source, job='convert', options=options)
  out = process.communicate(timeout=120)[0]
  assert process.returncode == 2
  assert f'--job=convert: there is no file {missing}' in out.splitlines()[-1]


def test_a_network_without_rules_is_refused(tmp_path):
  stages = tiny.stages(tiny.TOY)
  np.savez(tmp_path / 'w.npz', a=np.zeros(3))
  options = convert.Options(
    from_=str(tmp_path / 'w.npz'), to=str(tmp_path / 'run')
  )
  with pytest.raises(ConfigError, match="no rules for weights of 'mlp'"):
    tiny.run(convert, stages, tmp_path, options)


def test_an_option_may_be_a_word_of_python():
  given = [('from', 'a.pth'), ('to', 'there')]
  options = parse_options(JOBS, 'convert', given)
  assert (options.from_, options.to) == ('a.pth', 'there')
  more = parse_options(JOBS, 'convert', [*given, ('shape', '32,32,3')])
  assert more.shape == (32, 32, 3)
  with pytest.raises(ConfigError, match='--shape=32x32 must be integers with'):
    parse_options(JOBS, 'convert', [*given, ('shape', '32x32')])
  for text, grid in (('none', None), ('uniform', 'uniform')):
    assert parse_options(JOBS, 'generate', [('grid', text)]).grid == grid
  with pytest.raises(ConfigError, match="no such option; did you mean 'from'"):
    parse_options(JOBS, 'convert', [('form', 'a.pth')])


def test_what_an_interrupted_conversion_left_is_not_taken(tmp_path):
  stages = stages_of(tmp_path, 'ncsnpp')
  theirs, ours = foreign(stages['run'])
  for name, factor in (('a', 1), ('b', 2)):
    np.savez(tmp_path / name, **{k: factor * a for k, a in theirs.items()})
  for name in ('a', 'b'):
    options = convert.Options(
      from_=str(tmp_path / f'{name}.npz'), to=str(tmp_path / name)
    )
    made = tiny.run(convert, stages, tmp_path, options)
    if name == 'a':
      (tmp_path / 'a').rename(tmp_path / 'b.part')
  assert made.largest_error < 1e-4
  model = flowdistill.load(tmp_path / 'b', weights='params').models['student']
  kernel = by_name(model.params)['first.kernel']
  np.testing.assert_array_equal(kernel, 2 * ours['first.kernel'])
