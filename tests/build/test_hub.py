"""Folders of the hub: by commit, and from the cache without a network."""

import sys

import pytest
from convert import tiny_folders

from flowdistill.build.hub import fetched
from flowdistill.build.published import is_published, open_published
from flowdistill.config.bind import ConfigError
from flowdistill.config.sections import Reference

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
  constants = pytest.importorskip('huggingface_hub.constants')
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  library = pytest.importorskip('huggingface_hub')
  real = library.snapshot_download

  def cached(*args, **options):
    return real(*args, cache_dir=tmp_path, **options)

  monkeypatch.setattr(library, 'snapshot_download', cached)
  return tmp_path / 'models--owner--name' / 'snapshots' / COMMIT


def test_what_is_in_the_cache_is_found_without_a_network(cache):
  folder = cache / 'transformer'
  folder.mkdir(parents=True)
  config, spec = tiny_folders.KINDS['flux']
  tiny_folders.save(folder, config, tiny_folders.tensors('flux'), 2)
  found = open_published(Reference(SOURCE), spec, 'frozen.teacher')
  assert found.folder.path == folder


def test_what_is_not_in_the_cache_is_named(cache):
  assert not cache.exists()
  _, spec = tiny_folders.KINDS['flux']
  message = (
    r'^config\.frozen\.teacher: hub:owner/.*is not in the cache, and can'
  )
  with pytest.raises(ConfigError, match=message):
    open_published(Reference(SOURCE), spec, 'frozen.teacher')
