"""What the command sets up before it reads anything. Its flags: test_config."""

import pathlib

import jax
import pytest

from flowdistill.main import keep_programs

FOLDER, LEAST = (
  'jax_compilation_cache_dir',
  'jax_persistent_cache_min_compile_time_secs',
)


@pytest.fixture
def settings():
  """JAX without a cache; afterwards as it was."""
  before = {name: getattr(jax.config, name) for name in (FOLDER, LEAST)}
  jax.config.update(FOLDER, None)
  yield jax.config
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.mark.parametrize('home', ['', 'cache'])
def test_programs_are_kept_unless_jax_is_told_otherwise(
  settings, monkeypatch, tmp_path, home
):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('XDG_CACHE_HOME', home and str(tmp_path / home))
  keep_programs()
  kept = pathlib.Path(settings.jax_compilation_cache_dir)
  assert kept == tmp_path / (home or '.cache') / 'flowdistill' / 'programs'


def test_a_folder_that_jax_knows_is_left(settings):
  settings.update(FOLDER, '/elsewhere')
  keep_programs()
  assert settings.jax_compilation_cache_dir == '/elsewhere'
