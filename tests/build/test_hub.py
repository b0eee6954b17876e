"""Folders of the hub: by commit, and from the cache without a network."""

import json
import sys

import huggingface_hub
import pytest
from convert import tiny_folders
from huggingface_hub import constants
from safetensors.numpy import save_file

from flowdistill.build.hub import fetched
from flowdistill.build.pipelines import fetched_base
from flowdistill.build.published import is_published, open_published
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference
from flowdistill.convert.pipelines import open_base

COMMIT = '0123456789abcdef0123456789abcdef01234567'
SOURCE = f'hub:owner/name@{COMMIT}/transformer'


@pytest.mark.parametrize(
  'source',
  [
    'hub:owner/name',
    'hub:owner/name@main',
    f'hub:name@{COMMIT}',
    f'hub:owner/name@{COMMIT[:12]}',
    f'hub:owner/name@{COMMIT}/../x',
    f'hub:owner/name@{COMMIT}/',
  ],
)
def test_a_name_needs_a_whole_commit(source):
  assert is_published(source)
  with pytest.raises(
    ValueError, match=r"^'hub:.*must be hub:OWNER/NAME@COMMIT"
  ):
    fetched(source)


def test_the_library_that_is_missing_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(ValueError, match=r"pip install 'flowdistill\[hub\]'$"):
    fetched(SOURCE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A cache without a network; returns the folder of the commit in it."""
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  real = huggingface_hub.snapshot_download

  def cached(*args, **options):
    return real(*args, cache_dir=tmp_path, **options)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', cached)
  return tmp_path / 'models--owner--name' / 'snapshots' / COMMIT


def test_what_is_in_the_cache_is_found_without_a_network(cache):
  folder = cache / 'transformer'
  folder.mkdir(parents=True)
  config, spec = tiny_folders.KINDS['flux']
  tiny_folders.save(folder, config, tiny_folders.tensors('flux'), 2)
  found = open_published(Reference(SOURCE), spec, 'frozen.teacher')
  assert found.saved.path == folder


@pytest.mark.parametrize('name', ['sd3.safetensors', 'sd3.sft'])
def test_a_file_of_the_hub(cache, monkeypatch, name):
  source, wanted = f'hub:owner/name@{COMMIT}/{name}', []
  real = huggingface_hub.snapshot_download

  def noting(*args, allow_patterns, **options):
    wanted.append(allow_patterns)
    return real(*args, allow_patterns=allow_patterns, **options)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', noting)
  _, spec = tiny_folders.KINDS['sd3']
  cache.mkdir(parents=True)
  with pytest.raises(ConfigError, match=f'there is no file .*{name}'):
    open_published(Reference(source), spec, 'frozen.teacher')
  save_file(tiny_folders.tensors('sd3'), cache / name)
  found = open_published(Reference(source), spec, 'frozen.teacher')
  assert found.saved.files == [cache / name]
  assert wanted == [[name], [name]]


def test_what_is_not_in_the_cache_is_named(cache):
  assert not cache.exists()
  _, spec = tiny_folders.KINDS['flux']
  message = (
    r'^config\.frozen\.teacher: hub:owner/.*is not in the cache, and can'
  )
  with pytest.raises(ConfigError, match=message):
    open_published(Reference(SOURCE), spec, 'frozen.teacher')


def test_of_a_pipeline_all_is_fetched_but_its_transformer(cache, monkeypatch):
  index = {
    '_class_name': 'FluxPipeline',
    'scheduler': ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
    'transformer': ['diffusers', 'FluxTransformer2DModel'],
    'image_encoder': [None, None],
    'vae': ['diffusers', 'AutoencoderKL'],
  }
  cache.mkdir(parents=True)
  (cache / 'model_index.json').write_text(json.dumps(index))
  for part in ('scheduler', 'vae'):
    (cache / part).mkdir()
  real, wanted = huggingface_hub.snapshot_download, []

  def noted(*args, allow_patterns, **options):
    wanted.append(allow_patterns)
    return real(*args, allow_patterns=allow_patterns, **options)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', noted)
  base = fetched_base(f'hub:owner/name@{COMMIT}')
  assert base == cache
  assert wanted == [
    ['model_index.json'],
    ['model_index.json', 'vae/*', 'scheduler/*'],
  ]
  assert open_base(base, 'flux').parts == ['vae']


def test_a_repository_without_a_pipeline_is_named(cache):
  cache.mkdir(parents=True)
  with pytest.raises(ValueError, match=r'model_index\.json cannot be read: No'):
    fetched_base(f'hub:owner/name@{COMMIT}')
