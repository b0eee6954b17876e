"""Encoded captions: once each, the same bytes however, and a training."""

import json
import shutil
import signal

import numpy as np
import pytest
from jobs import hosts, tiny

import flowdistill
from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError
from flowdistill.config.protocols import TextEncoder
from flowdistill.datasets.caption_cache import key_of, open_cache
from flowdistill.datasets.encoded import Encoded
from flowdistill.datasets.shapes import shapes
from flowdistill.datasets.texts import encoded
from flowdistill.files.stored_array import StoredArray
from flowdistill.flow.spec import DataSpec
from flowdistill.jobs import encode, train
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.kinds import KINDS, check_stages
from flowdistill.text_encoders.random_features import RandomFeatures
from flowdistill.training.watchdog import AGAIN

CONFIG = """
SHAPES = {{'name': 'shapes', 'size': 24, 'examples': 90}}

def get_config(arg=''):
  return {{
    'stages': {{
      'read': {{
        'job': 'encode', 'dataset': SHAPES, 'shard_size': 20,
        'text_encoder': {{
          'name': 'random_features', 'length': 7, 'width': 16,
        }},
      }},
      'flow': {{
        'dataset': {{
          **SHAPES, 'text': {{'name': 'encoded', 'path': '{0}/w/read/captions'}}
        }},
        'network': {{
          'name': 'mmdit', 'width': 16, 'depth': 1, 'heads': 2, 'patch': 8,
        }},
        'objective': 'rectified_flow',
        'train': {{'steps': 2, 'batch_size': 8, 'drop_cond': 0.5}},
        'evaluation': {{'batch_size': 8}},
        'evaluators': {{}},
      }},
    }},
  }}
"""
OURS = RandomFeatures(length=7, width=16)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config file, workdir) of finished captions."""
  folder = tmp_path_factory.mktemp('run')
  config = folder / 'captions.py'
  config.write_text(CONFIG.format(folder))
  make(config, folder / 'w')
  return config, folder / 'w'


def make(config, workdir, *overrides):
  """Runs the job as main does; returns the folder of the captions."""
  options = encode.Options(stage='read')
  blueprints = Blueprints(tiny.stages(config, *overrides), workdir)
  blueprints = encode.only_encoding(blueprints, options)
  check_stages(blueprints)
  (folder,) = encode.run(blueprints, options)
  return folder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def source_of(folder, **options):
  def text(captions):
    return encoded(captions, path=str(folder))

  return shapes(size=24, examples=90, text=text, **options)


def assert_same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype
    np.testing.assert_array_equal(a[name], b[name])


def test_captions_are_what_the_encoder_answers_each_once(run):
  folder = run[1] / 'read' / 'captions'
  source = source_of(folder)
  captions = [*source.captions]
  wanted = OURS.encode(captions)
  assert max(OURS.sizes(captions)) > 7  # some are cut
  rows = source[np.arange(90)]
  assert_same({k: rows[k] for k in wanted}, wanted)
  manifest = json.loads((folder / 'manifest.json').read_text())
  assert manifest['count'] == len({'', *captions})
  assert manifest['encoder'] == {**OURS.about()}
  cache = open_cache(str(folder), verify=True)
  assert cache.numbers[key_of(cache.encoder, '')] == 0
  sizes = [source.encoder.size(caption) for caption in captions]
  assert sizes == OURS.sizes(captions)
  texts = folder.glob('*.text.npy')
  stored = sum(len(np.load(path)) for path in texts)
  kept = [min(n, 7) for n in OURS.sizes([*{'', *captions}])]
  assert stored == sum(kept)  # no padding


def test_the_spec_is_that_of_captions_encoded_as_they_are_read(run):
  spec = source_of(run[1] / 'read' / 'captions').spec
  assert dict(spec.cond) == OURS.conditions
  record = json.loads(json.dumps(spec.to_json()))
  assert DataSpec.of(record) == spec
  encoder = source_of(run[1] / 'read' / 'captions').encoder
  assert_same(encoder.encode(['', '']), OURS.encode(['', '']))
  flies = {'name': 'random_features', 'length': 7, 'width': 16}
  specs = tiny.stages(run[0], f'stages.flow.dataset.text={flies}')
  here = Blueprints(specs, run[1], recorded=False)['flow'].data
  there = flow_of(run).data
  index = np.arange(9)
  assert_same({**here[index]}, {**there[index]})


def flow_of(run):
  return Blueprints(tiny.stages(run[0]), run[1], recorded=False)['flow']


def test_finished_stays_and_a_missing_shard_is_made_again(run, capsys):
  folder = run[1] / 'read' / 'captions'
  before = contents(folder)
  make(*run)
  assert 'read: finished before' in capsys.readouterr().out
  (folder / '00001.sha256').unlink()
  (folder / '00001.text.npy').write_bytes(b'half')
  with pytest.raises(ValueError, match=r'00001.sha256 is missing'):
    source_of(folder)
  make(*run)
  assert contents(folder) == before


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('text_encoder.seed=1', 'text_encoder.seed'),
    ('dataset.seed=1', 'dataset.seed'),
    ('dtype=float16', 'dtype'),
  ],
)
def test_other_captions_and_encoders_are_refused(
  run, tmp_path, override, message
):
  workdir = tmp_path / 'w'
  shutil.copytree(run[1] / 'read', workdir / 'read')
  with pytest.raises(ConfigError, match=f'another config: .*{message}'):
    make(run[0], workdir, f'stages.read.{override}')
  (workdir / 'read' / 'config.json').unlink()
  with pytest.raises(ConfigError, match='holds other captions: .*sha256|dtype'):
    make(run[0], workdir, f'stages.read.{override}')


def test_half_precision(run, tmp_path):
  folder = make(run[0], tmp_path, 'stages.read.dtype=float16')
  source = source_of(folder)
  wanted = OURS.encode([*source.captions])
  rows = source[np.arange(90)]
  for name in ('text', 'pooled'):
    assert rows[name].dtype == np.float32
    half = wanted[name].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rows[name], half)
    assert not np.array_equal(rows[name], wanted[name])


# --- What is refused before training ------------------------------------------


def test_a_caption_that_is_not_there_is_refused(run):
  with pytest.raises(ValueError, match=r'\d+ are not in it, such as .a'):
    source_of(run[1] / 'read' / 'captions', seed=5)


def test_damaged_unfinished_and_other_folders_are_refused(run, tmp_path):
  def refused(message):
    with pytest.raises(ValueError, match=message):
      source_of(folder)

  folder = tmp_path / 'captions'
  refused('it is no folder of encoded captions')
  shutil.copytree(run[1] / 'read' / 'captions', folder)
  data = bytearray((folder / '00000.text.npy').read_bytes())
  data[-1] ^= 1
  (folder / '00000.text.npy').write_bytes(data)
  refused('00000.text.npy is damaged')
  other = (folder / '00001.sha256').read_bytes()
  (folder / '00000.sha256').write_bytes(other)
  refused('one of its lists of files')
  manifest = json.loads((folder / 'manifest.json').read_text())
  (folder / 'manifest.json').write_text(
    json.dumps({**manifest, 'finished': False})
  )
  refused('captions are not all encoded')
  (folder / 'manifest.json').write_text(
    json.dumps({**manifest, 'format': 'flowdistill latents 1'})
  )
  refused("has the format 'flowdistill latents 1'")


def test_an_encoder_that_was_not_trained_with_is_refused(run):
  path = str(run[1] / 'read' / 'captions')
  with pytest.raises(ValueError, match='must have captions of the encoder wit'):
    Encoded(path, 'f' * 64, 7).encode(['a red square'])


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ["stages.read.dataset={'name': 'digits'}"],
      'read.text_encoder has no effect: the examples of .* have no captions',
    ),
    (['stages.read.sample=true'], 'sample = True has no effect on captions'),
    (['stages.read.flips=true'], 'flips = True has no effect on captions'),
    (
      ["stages.read.space={'name': 'patch_dct'}"],
      'read.space has no effect on captions',
    ),
    (
      ["stages.read.text_encoder={'name': 'clip_l'}"],
      r"read\.text_encoder\.path = '' must be a folder",
    ),
    (
      ["stages.read.text_encoder={'name': 'clip_k'}"],
      "'clip_k' does not exist; did you mean 'clip_[lg]'",
    ),
  ],
)
def test_a_stage_is_checked_before_anything_runs(
  run, tmp_path, overrides, message
):
  with pytest.raises(ConfigError, match=message):
    make(run[0], tmp_path, *overrides)


def test_at_toy_size_nothing_is_read(run, tmp_path):
  specs = tiny.stages(run[0])
  small = {n: KINDS[spec['job']].tiny(spec) for n, spec in specs.items()}
  small['flow']['dataset'] = {
    **small['flow']['dataset'], 'text': {
      'name': 'random_features', 'length': 4, 'width': 8, 'seed': 0,
      'cut': True
    },
  }  # fmt: skip
  check_stages(Blueprints(small, tmp_path, recorded=False))


# --- A null that is not zero --------------------------------------------------


class Shifted(RandomFeatures):
  """Without a mask, and with numbers in its padding."""

  masked = False

  def encode(self, captions):
    found = super().encode(captions)
    places = np.arange(found['text'].size, dtype=np.float32)
    places = places.reshape(found['text'].shape) % 7
    return {'text': found['text'] + places, 'pooled': found['pooled'] - 1}


def test_a_null_of_many_numbers_is_a_file(run, tmp_path, monkeypatch):
  monkeypatch.setitem(
    ROOMS[TextEncoder],
    'shifted',
    lambda: Shifted(length=7, width=16),
  )
  folder = make(
    run[0], tmp_path, "stages.read.text_encoder={'name': 'shifted'}"
  )
  source = source_of(folder)
  wanted = Shifted(length=7, width=16).encode([''])
  assert source.spec.cond.keys() == {'text', 'pooled'}
  assert source.spec.cond['pooled'].null == -1.0
  assert isinstance(source.spec.cond['text'].null, StoredArray)
  record = json.loads(json.dumps(source.spec.to_json()))
  spec = DataSpec.of(record)
  assert spec == source.spec
  batch = spec.batch({'text': np.ones((2, 7, 16)), 'pooled': np.ones((2, 8))})
  for name, array in wanted.items():
    np.testing.assert_array_equal(batch['null'][name], array[[0, 0]])


def test_an_encoder_that_takes_no_caption_names_its_key(
  run, tmp_path, monkeypatch
):
  class Refusing(RandomFeatures):
    def encode(self, captions):
      raise ValueError('a caption is too long')

  monkeypatch.setitem(
    ROOMS[TextEncoder], 'refusing', lambda: Refusing(length=7, width=16)
  )
  message = r'^config\.stages\.read\.text_encoder: a caption is too long$'
  with pytest.raises(ConfigError, match=message):
    make(run[0], tmp_path, "stages.read.text_encoder={'name': 'refusing'}")


# --- Interruptions, hosts, training -------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, AGAIN)]
)
def test_after_a_kill_they_end_in_the_same_bytes(run, tmp_path, number, code):
  more = ('stages.read.shard_size=1', 'stages.read.dataset.examples=500')
  whole = contents(make(run[0], tmp_path / 'whole', *more))
  workdir = tmp_path / 'killed'
  folder = workdir / 'read' / 'captions'
  process = tiny.start(workdir, run[0], *more, job='encode')
  tiny.send_when(process, (folder / '00002.sha256').exists, number)
  assert process.returncode == code
  manifest = json.loads((folder / 'manifest.json').read_text())
  assert not manifest['finished']
  make(run[0], workdir, *more)
  assert contents(folder) == whole


@pytest.mark.slow
def test_two_hosts_write_the_bytes_of_one(run, tmp_path):
  processes = hosts.start_all(tmp_path, run[0], '--job=encode')
  for code, _, errors in hosts.end_all(processes):
    assert code == 0, errors
  one = contents(run[1] / 'read' / 'captions')
  assert contents(tmp_path / 'read' / 'captions') == one


@pytest.mark.slow
def test_a_stage_trains_on_them_and_encodes_other_prompts(run):
  blueprints = tiny.check_here(tiny.stages(run[0]), run[1])
  train.run(blueprints, train.Options(stage='flow'))
  trained = flowdistill.load(run[1])
  known = flow_of(run).data.captions([3])
  prompts = ['a purple whale under two moons', '', *known]
  wanted = OURS.encode(prompts)
  found = flow_of(run).data.encode(prompts)
  assert_same(found, wanted)
  x = trained.sample(prompts=prompts, sampler='euler', nfe=1)
  assert x.shape == (3, 24, 24, 3)
  # Another encoder under the same folder is refused.
  folder = run[1] / 'read' / 'captions'
  manifest = json.loads((folder / 'manifest.json').read_text())
  changed = {**manifest, 'encoder_sha256': 'f' * 64}
  (folder / 'manifest.json').write_text(json.dumps(changed))
  try:
    with pytest.raises(ValueError, match='must have captions of the encoder'):
      trained.sample(prompts=prompts, sampler='euler', nfe=1)
  finally:
    (folder / 'manifest.json').write_text(json.dumps(manifest))
