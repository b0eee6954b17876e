"""Latents of images: the same bytes however they came about, and a training."""

import json
import shutil
import signal

import numpy as np
import pytest
from autoencoders.test_kl import TINY, weights_of
from flax import nnx
from jobs import hosts, tiny
from networks.features.loading import abstract
from safetensors.numpy import save_file

import flowdistill
from flowdistill.autoencoders.kl import AutoencoderKL, KLConfig
from flowdistill.config.bind import ConfigError
from flowdistill.convert.kl import to_torch
from flowdistill.datasets.latents import latents
from flowdistill.datasets.pipeline import permutation
from flowdistill.datasets.shards import read_array
from flowdistill.jobs import encode, train
from flowdistill.stages import order
from flowdistill.stages.assembly import batches
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import KINDS, check_stages
from flowdistill.training.watchdog import AGAIN
from flowdistill.workdir.record import load_spec

CONFIG = """
SPACE = {{
  'name': 'kl', 'path': '{0}/vae.safetensors', 'scaling_factor': 0.5,
  'shift_factor': 0.1, 'block_out_channels': (8, 16), 'layers_per_block': 1,
  'norm_num_groups': 4,
}}

def get_config(arg=''):
  return {{
    'space': SPACE,
    'stages': {{
      'encode': {{
        'job': 'encode', 'dataset': {{'name': 'digits', 'split': 'train'}},
        'shard_size': 600,
      }},
      'flow': {{
        'dataset': {{'name': 'latents', 'path': '{0}/w/encode/latents'}},
        'network': {{
          'name': 'dit', 'width': 16, 'depth': 1, 'heads': 2, 'patch': 1,
        }},
        'objective': 'rectified_flow',
        'train': {{'steps': 3, 'batch_size': 16}},
        'evaluation': {{
          'batch_size': 16, 'features': 'digits',
          'dataset': {{'name': 'digits', 'split': 'train'}},
        }},
        'evaluators': {{
          'few_step': {{
            'name': 'few_step', 'samples': 32,
            'sweep': {{'student': [['euler', 2]]}},
          }},
          'loss': {{'name': 'flow_loss', 'samples': 32}},
        }},
      }},
    }},
  }}
"""

IMAGES = "stages.flow.dataset={'name': 'digits', 'split': 'train'}"


def write_weights(file, seed=0):
  _, params = abstract(
    lambda: AutoencoderKL(KLConfig(**TINY), 1, rngs=nnx.Rngs(0))
  )
  theirs = to_torch(weights_of(params, seed)).items()
  save_file({n: np.ascontiguousarray(a) for n, a in theirs}, file)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config file, workdir) of finished latents."""
  folder = tmp_path_factory.mktemp('run')
  config = folder / 'latent.py'
  config.write_text(CONFIG.format(folder))
  write_weights(folder / 'vae.safetensors')
  make(config, folder / 'w')
  return config, folder / 'w'


def make(config, workdir, *overrides, **options):
  """Runs the job as main does; returns the only folder."""
  chosen = encode.Options(**options)
  blueprints = Blueprints(tiny.stages(config, *overrides), workdir)
  blueprints = encode.only_encoding(blueprints, chosen)
  check_stages(blueprints)
  (folder,) = encode.run(blueprints, chosen)
  return folder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def array(folder, name):
  count = len(list(folder.glob('*.sha256')))
  return np.concatenate([read_array(folder, k, name) for k in range(count)])


def manifest_of(folder):
  return json.loads((folder / 'manifest.json').read_text())


def space_and_images(run):
  """Of the stage that encodes."""
  blueprint = Blueprints(tiny.stages(run[0]), run[1])['encode']
  return blueprint.space, blueprint.data


def test_they_are_what_the_autoencoder_answers(run):
  folder = run[1] / 'encode' / 'latents'
  space, data = space_and_images(run)
  rows = data[np.arange(len(data))]
  mean, std = space.moments(rows['x0'])
  np.testing.assert_allclose(array(folder, 'mean'), mean, atol=1e-5)
  np.testing.assert_allclose(array(folder, 'std'), std, rtol=1e-3, atol=1e-5)
  np.testing.assert_array_equal(array(folder, 'label'), rows['label'])
  made = manifest_of(folder)
  assert made['count'] == len(data)
  assert made['pictures'] == [8, 8, 1]
  assert made['spec']['shape'] == [4, 4, 4]
  assert (made['scale'], made['shift']) == (0.5, 0.1)
  assert made['weights_sha256'] == space.digest()
  assert made['from_uint8'] == 'x / 127.5 - 1'
  assert made['dataset']['config']['split'] == 'train'
  assert made['space']['block_out_channels'] == [8, 16]
  assert 'path' not in made['space']
  assert made['code']


def test_what_is_finished_stays_and_a_missing_shard_is_made_again(run, capsys):
  folder = run[1] / 'encode' / 'latents'
  before = contents(folder)
  times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  make(*run)
  assert 'encode: finished before' in capsys.readouterr().out
  assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == times
  (folder / '00001.sha256').unlink()
  (folder / '00001.mean.npy').write_bytes(b'half')
  make(*run)
  assert contents(folder) == before


def test_the_weights_of_the_space_may_move(run, tmp_path):
  """Its batch size may change too; only other bytes are another autoencoder."""
  workdir, moved = tmp_path / 'w', tmp_path / 'moved.safetensors'
  shutil.copytree(run[1] / 'encode', workdir / 'encode')
  shutil.copy(run[1].parent / 'vae.safetensors', moved)
  folder = workdir / 'encode' / 'latents'
  before = contents(folder)
  (folder / '00001.sha256').unlink()
  space = 'stages.encode.space'
  more = [f'{space}.path={moved}']
  make(run[0], workdir, *more)
  assert contents(folder) == before
  more += [f'{space}.batch_size=5']
  make(run[0], workdir, *more)
  spec = load_spec(folder.parent)
  assert spec['space']['path'] == str(moved)
  write_weights(moved, seed=1)
  with pytest.raises(ConfigError, match='holds other latents: weights_sha256'):
    make(run[0], workdir, *more)
  with pytest.raises(
    ConfigError, match='with another config: .*scaling_factor'
  ):
    make(run[0], workdir, f'{space}.scaling_factor=0.6')
  assert contents(folder) == before


def test_options_that_are_newer_than_a_cache_have_their_defaults(run):
  path = run[1] / 'encode' / 'latents' / 'manifest.json'
  before = path.read_bytes()
  made = json.loads(before)
  del made['space']['pixel_range'], made['dataset']['config']['size']
  path.write_text(json.dumps(made))
  try:
    make(*run)
    tiny.check_here(tiny.stages(run[0]), run[1])
  finally:
    path.write_bytes(before)


def test_options_are_for_a_stage_that_trains(run, tmp_path):
  images = "stages.flow.dataset={'name': 'digits', 'split': 'validation'}"
  out = str(tmp_path / 'out')
  made = make(
    *run, images, stage='flow', sample=True, flips=True, seed=3, out=out
  )
  again = make(*run, images, stage='flow', sample=True, flips=True, seed=3)
  assert again == run[1] / 'flow' / 'latents'
  assert contents(made) == contents(again)
  shutil.rmtree(run[1] / 'flow')
  x = Blueprints(tiny.stages(run[0], images), run[1])['flow'].data
  x0 = x[np.arange(len(x))]['x0']
  space, _ = space_and_images(run)
  seen = []
  for end, images in (('', x0), ('_flipped', x0[:, :, ::-1])):
    mean, std = space.moments(images)
    noise = (array(made, f'sample{end}') - mean) / std
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    seen.append(noise)
  assert not np.allclose(*seen)
  assert not list(made.glob('*.std.npy'))


def test_a_space_without_noise_has_one_array(run, tmp_path):
  more = ("stages.encode.space={'name': 'patch_dct', 'scale': 2.0}",)
  folder = make(run[0], tmp_path, *more)
  _, data = space_and_images(run)
  source = latents(path=str(folder))
  space = Blueprints(tiny.stages(run[0], *more), tmp_path)['encode'].space
  wanted = space.encode(data[np.arange(9)]['x0'])
  np.testing.assert_allclose(source[np.arange(9)]['x0'], wanted, atol=1e-5)
  drawn = source.draw(np.arange(9), np.zeros(9, int), 5)
  np.testing.assert_array_equal(drawn['x0'], source[np.arange(9)]['x0'])


# --- Interruptions, and several hosts -----------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, AGAIN)]
)
def test_after_a_kill_they_end_in_the_same_bytes(run, tmp_path, number, code):
  more = ('stages.encode.shard_size=30',)
  whole = contents(make(run[0], tmp_path / 'whole', *more))
  workdir = tmp_path / 'killed'
  folder = workdir / 'encode' / 'latents'
  process = tiny.start(workdir, run[0], *more, job='encode')
  tiny.send_when(process, (folder / '00002.sha256').exists, number)
  assert process.returncode == code
  assert not manifest_of(folder)['finished']
  with pytest.raises(ValueError, match=r'are not finished, \d+ of 54 shards'):
    latents(path=str(folder))
  make(run[0], workdir, *more)
  assert contents(folder) == whole


@pytest.mark.slow
def test_two_hosts_write_the_bytes_of_one(run, tmp_path):
  processes = hosts.start_all(tmp_path, run[0], '--job=encode')
  for code, _, errors in hosts.end_all(processes):
    assert code == 0, errors
  one = contents(run[1] / 'encode' / 'latents')
  assert contents(tmp_path / 'encode' / 'latents') == one


# --- Training -----------------------------------------------------------------


def flow(run, *overrides):
  spec = tiny.stages(run[0], *overrides)['flow']
  return tiny.blueprint(spec, run[1] / 'flow', run[1])


def test_batches_are_drawn_anew_and_not_encoded_again(run):
  spec = tiny.stages(run[0])['flow']
  assembly = tiny.assembled(spec, run[1] / 'flow', run[1])
  source = assembly.blueprint.data.source
  first = np.asarray(next(batches(assembly, 0))['x0'])
  assert first.shape == (16, 4, 4, 4)
  again = np.asarray(next(batches(assembly, 0))['x0'])
  np.testing.assert_array_equal(first, again)
  later = np.asarray(next(batches(assembly, len(source)))['x0'])
  seed = assembly.blueprint.stage.seed
  for epoch, drawn in ((0, first), (16, later)):
    order = permutation(len(source), seed, epoch)[:16]
    wanted = source.draw(order, np.full(16, epoch), seed)['x0']
    np.testing.assert_array_equal(drawn, wanted)
    others = source.draw(order, np.full(16, epoch + 1), seed)['x0']
    assert not np.isin(drawn, others).any()


@pytest.mark.slow
def test_a_stage_trains_on_them_and_measures_decoded_images(run):
  blueprints = tiny.check_here(tiny.stages(run[0]), run[1])
  rows = train.run(blueprints, train.Options())
  assert {row['model'] for row in rows} == {'student'}
  assert any('frechet_digits' in row for row in rows)
  trained = flowdistill.load(run[1])
  x = trained.sample(3, sampler='euler', nfe=2)
  assert x.shape == (3, 8, 8, 1)
  record = json.loads((run[1] / 'flow' / 'config.json').read_text())['data']
  assert record['pictures'] == [8, 8, 1]
  assert record['spec']['shape'] == [4, 4, 4]
  folder = run[1] / 'encode' / 'latents'
  old, other = folder.with_name('old'), folder.with_name('other')
  make(run[0], run[1], IMAGES, stage='flow', sample=True, out=str(other))
  folder.rename(old)
  other.rename(folder)
  try:
    with pytest.raises(ConfigError, match='from other weights: .*latents'):
      specs = tiny.stages(run[0], 'stages.flow.train.steps=4')
      tiny.run(train, specs, run[1], train.Options(stage='flow'))
  finally:
    folder.rename(other)
    old.rename(folder)


def test_without_images_their_reconstructions_are_measured(run):
  blueprint = flow(run, 'stages.flow.evaluation.dataset=none')
  space, data = space_and_images(run)
  index = np.array([3, 5])
  mean, _ = space.moments(data[index]['x0'])
  wanted = space.decode((mean - 0.1) * 0.5)
  rows = blueprint.measured[index]
  np.testing.assert_allclose(rows['x0'], wanted, atol=1e-4)
  one = blueprint.measured[np.int64(3)]
  np.testing.assert_allclose(one['x0'], wanted[0], atol=1e-4)
  assert blueprint.measured.spec.shape == (8, 8, 1)
  np.testing.assert_array_equal(rows['label'], data[index]['label'])


# --- Latents of an earlier stage ----------------------------------------------

EARLIER = 'stages.flow.dataset.path=stage:encode'


def test_a_stage_names_the_one_that_encodes_for_it(run, tmp_path):
  """All is known before the latents are there, and is what they are then."""
  before = Blueprints(tiny.stages(run[0], EARLIER), tmp_path, recorded=False)
  check_stages(before)
  assert not (tmp_path / 'encode').exists()
  after = Blueprints(tiny.stages(run[0]), run[1], recorded=False)
  assert before['flow'].data.record == after['flow'].data.record
  assert before['flow'].sees == after['flow'].sees
  assert order.references(before, 'flow') == ['encode']
  there = Blueprints(tiny.stages(run[0], EARLIER), run[1], recorded=False)
  index = np.arange(5)
  np.testing.assert_array_equal(
    there['flow'].data[index]['x0'], after['flow'].data[index]['x0']
  )
  assert there['flow'].data.identity == after['flow'].data.identity


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['stages.flow.dataset.path=stage:encod'],
      r"dataset\.path = 'stage:encod' must be an earlier stage that encodes; "
      "did you mean 'stage:encode'",
    ),
    (
      ['stages.flow.dataset.path=stage:flow'],
      "path = 'stage:flow' must be an earlier stage that encodes",
    ),
    (
      [EARLIER, 'stages.flow.dataset.flip=true'],
      r'flow\.dataset\.flip = True has no mirrored images: set '
      r'config\.stages\.encode\.flips = True',
    ),
    (
      [EARLIER, 'stages.flow.space.scaling_factor=0.6'],
      r'stages\.flow\.space must be the space of the latents in .*scaling',
    ),
    (
      [EARLIER, 'stages.encode.space=pixels'],
      r"flow\.space must be the space of the latents .*was 'pixels', is 'kl'",
    ),
    (
      [
        EARLIER,
        "stages.flow.evaluation.dataset={'name': 'latents', "
        "'path': 'stage:encode'}",
      ],
      r'flow\.evaluation\.dataset must have images, and these are latents',
    ),
  ],
)
def test_a_stage_that_does_not_encode_for_it_is_refused(
  run, tmp_path, overrides, message
):
  specs = tiny.stages(run[0], *overrides)
  with pytest.raises(ConfigError, match=message):
    check_stages(Blueprints(specs, tmp_path, recorded=False))


def test_at_toy_size_the_latents_are_those_of_the_stage(run, tmp_path):
  """Also where a sample is stored, of which a toy space has none."""
  more = EARLIER, 'stages.encode.sample=true', 'stages.encode.seed=3'
  specs = tiny.stages(run[0], *more)
  small = {n: KINDS[spec['job']].tiny(spec) for n, spec in specs.items()}
  assert small['flow']['dataset']['path'] == 'stage:encode'
  blueprints = Blueprints(small, tmp_path, recorded=False)
  check_stages(blueprints)
  assert blueprints['flow'].sees.shape == (4, 4, 4)


@pytest.mark.slow
def test_one_run_encodes_and_trains(run, tmp_path, capsys):
  """And its later jobs need neither the config nor the images."""
  silent = ('evaluators={}', 'evaluation.features=none')
  silent += ('evaluation.dataset=none',)
  more = run[0], EARLIER, *(f'stages.flow.{text}' for text in silent)
  tiny.train_here(tmp_path, *more)
  folder = tmp_path / 'encode' / 'latents'
  assert contents(folder) == contents(run[1] / 'encode' / 'latents')
  references = json.loads((tmp_path / 'flow' / 'config.json').read_text())
  lists = manifest_of(folder)['lists']
  assert references['references']['latents'] == f'latents of sha256 {lists}'
  tiny.train_here(tmp_path, *more)
  assert 'flow: finished before' in capsys.readouterr().out
  loaded = flowdistill.load(tmp_path)
  assert loaded.sample(2, sampler='euler', nfe=1).shape == (2, 8, 8, 1)
  assert loaded.source[np.arange(2)]['x0'].shape == (2, 4, 4, 4)
  check_stages(Blueprints.of_run(tmp_path))
  shutil.rmtree(tmp_path / 'encode')
  with pytest.raises(ConfigError, match='no folder of latents'):
    specs = tiny.stages(*more, 'stages.flow.train.steps=4')
    tiny.run(train, specs, tmp_path, train.Options(stage='flow'))


# --- What is refused ----------------------------------------------------------


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['stages.flow.space.scaling_factor=0.6'],
      r'stages\.flow\.space must be the space of the latents in .*scaling',
    ),
    (
      ['stages.flow.space.shift_factor=0.0'],
      'shift_factor was 0.1, is 0.0',
    ),
    (['stages.flow.space=pixels'], "space.name was 'kl', is 'pixels'"),
    (
      ['stages.flow.space.path=/nowhere.safetensors'],
      r'config\.stages\.flow\.space: there is no file',
    ),
    (
      ['stages.flow.dataset.path=/nowhere'],
      r"dataset\.path = '/nowhere': it is no folder of latents",
    ),
    (["stages.flow.dataset.path=''"], r"dataset\.path = '' must be a folder"),
    (['stages.flow.dataset.flip=true'], 'has no mirrored images'),
    (
      ['stages.flow.dataset=digits', 'stages.flow.train.flip=true'],
      r'train\.flip has no effect: mirrored latents are not those of .*images$',
    ),
    (['stages.flow.train.flip=true'], r'train\.flip has no effect: mirrored'),
    (
      ["stages.flow.evaluation.dataset={'name': 'digits', 'size': 16}"],
      r'evaluation\.dataset must have examples as those of the stage, \[8, 8',
    ),
    (
      [
        "stages.flow.evaluation.dataset={'name': 'latents', 'path': 'PATH'}",
      ],
      r'flow\.evaluation\.dataset must have images, and these are latents',
    ),
    (
      ["stages.encode.dataset={'name': 'latents', 'path': 'PATH'}"],
      r'encode\.dataset must have images',
    ),
    (['stages.encode.dataset=moons'], r'kl takes images \[h, w, c\]'),
    (
      ['stages.encode.space=pixels', 'stages.encode.sample=true'],
      r"encode\.sample has no effect: .* the space 'pixels'",
    ),
    (['stages.encode.dtype=int8'], "dtype = 'int8' must be 'float32' or"),
    (['stages.encode.shard_size=0'], 'shard_size = 0 must be at least 1'),
    (['stages.encode.seed=1'], 'seed = 1 has no effect without sample'),
    (['stages.encode.flip=true'], "did you mean 'flips'"),
    (['stages.encode.network=mlp'], "has no key 'network'"),
  ],
)
def test_a_config_that_is_wrong_is_refused(run, overrides, message):
  path = str(run[1] / 'encode' / 'latents')
  overrides = [text.replace('PATH', path) for text in overrides]
  with pytest.raises(ConfigError, match=message):
    tiny.check_here(tiny.stages(run[0], *overrides), run[1])


@pytest.mark.slow
def test_a_stage_on_images_keeps_the_weights_of_its_space(run, tmp_path):
  space = tmp_path / 'space.safetensors'
  write_weights(space)
  given = (run[0], IMAGES, f'stages.flow.space.path={space}')
  shutil.copytree(run[1] / 'encode', tmp_path / 'w' / 'encode')
  tiny.train_here(tmp_path / 'w', *given)
  write_weights(space, seed=1)
  longer = (*given, 'stages.flow.train.steps=6')
  with pytest.raises(ConfigError, match='must have the weights of the train'):
    tiny.check_here(tiny.stages(*longer), tmp_path / 'w')
  with pytest.raises(ConfigError, match='must have the weights of the train'):
    flowdistill.load(tmp_path / 'w')
  space.unlink()
  with pytest.raises(ConfigError, match=r'config\.space: there is no file'):
    flowdistill.load(tmp_path / 'w')
  write_weights(space)
  assert flowdistill.load(tmp_path / 'w').folder.name == 'flow'


def test_other_weights_are_refused(run, tmp_path):
  other = tmp_path / 'other.safetensors'
  write_weights(other, seed=1)
  override = f'stages.flow.space.path={other}'
  with pytest.raises(ConfigError, match=r'weights_sha256 was .*, is '):
    tiny.check_here(tiny.stages(run[0], override), run[1])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'stage': 'flaw'}, "--stage=flaw does not exist; did you mean 'flow'"),
    ({'stage': 'encode', 'flips': True}, "'encode' encodes by its own keys"),
    ({'stage': 'flow', 'seed': 1}, '--seed = 1 has no effect without sample'),
    ({'stage': 'flow', 'dtype': 'f4'}, "--dtype = 'f4' must be"),
  ],
)
def test_options_that_cannot_be_are_refused(run, options, message):
  with pytest.raises(ConfigError, match=message):
    make(*run, **options)


def test_a_folder_of_other_latents_is_left_alone(run, tmp_path):
  folder = run[1] / 'encode' / 'latents'
  before = contents(folder)
  images = 'stages.flow.dataset=digits'
  for options, difference in (
    ({'dtype': 'float16'}, "dtype was 'float32', is 'float16'"),
    ({'flips': True}, 'flips was False, is True'),
    ({}, 'shard_size was 600, is 1797'),
  ):
    with pytest.raises(
      ConfigError, match=f'holds other latents: .*{difference}'
    ):
      make(*run, images, stage='flow', out=str(folder), **options)
  with pytest.raises(ConfigError, match='was made with another config'):
    make(*run, 'stages.encode.flips=true')
  assert contents(folder) == before


def test_latents_that_are_not_finite_are_refused(run, tmp_path):
  """Such as those of an autoencoder that exceed half precision."""
  more = (
    "stages.encode.space={'name': 'patch_dct', 'scale': 1e6}",
    'stages.encode.dtype=float16',
  )
  with pytest.raises(ConfigError, match='image 0 are not finite in float16'):
    make(run[0], tmp_path, *more)
