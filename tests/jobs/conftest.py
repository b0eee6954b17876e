"""Compiled programs are kept for the session: the runs here are much alike.

And commands that are typed, for the tests of what is mistyped.
"""

import os

import jax
import pytest
from jobs import encoding, pairing, tiny, walks
from mistyped import images, points, stages, type_in, write_config

__all__ = ['images', 'points', 'stages', 'type_in', 'write_config']


@pytest.fixture(scope='package', autouse=True)
def compiled_once(tmp_path_factory):
  """For this process, and through the environment for those it starts."""
  folder = str(tmp_path_factory.mktemp('compiled'))
  names = {
    'jax_compilation_cache_dir': folder,
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: getattr(jax.config, name) for name in names}
  with pytest.MonkeyPatch.context() as patch:
    for name, value in names.items():
      jax.config.update(name, value)
      patch.setitem(os.environ, name.upper(), str(value))
    yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.fixture(scope='module')
def coded(tmp_path_factory):
  """(config file, workdir) of finished latents."""
  folder = tmp_path_factory.mktemp('run')
  config = folder / 'latent.py'
  config.write_text(encoding.CONFIG.format(folder))
  encoding.write_weights(folder / 'vae.safetensors')
  encoding.make(config, folder / 'w')
  return config, folder / 'w'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(config file, workdir) of a run with all its stages."""
  folder = tmp_path_factory.mktemp('run')
  config = folder / 'road.py'
  config.write_text(pairing.CONFIG)
  tiny.train_here(folder / 'w', config)
  return config, folder / 'w'


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('walk')
  return workdir, walks.walked(workdir)
