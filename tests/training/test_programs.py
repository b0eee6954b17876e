"""Compiled programs on disk: kept, and replaced where they are damaged."""

import pathlib
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from flowdistill.training.programs import keep_programs

LEAST = (
  'jax_persistent_cache_min_compile_time_secs',
  'jax_persistent_cache_min_entry_size_bytes',
)
FOLDER = 'jax_compilation_cache_dir'


@pytest.fixture
def settings():
  """JAX without a cache; afterwards all is as it was."""
  before = {name: getattr(jax.config, name) for name in (FOLDER, *LEAST)}
  jax.config.update(FOLDER, None)
  with warnings.catch_warnings():
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


def test_without_a_home_nothing_is_kept(settings, monkeypatch):
  def no_home(self):
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(pathlib.Path, 'expanduser', no_home)
  keep_programs()
  assert settings.jax_compilation_cache_dir is None


@pytest.fixture
def kept(settings, tmp_path):
  """A folder with one compiled program, and what compiles it again."""
  settings.update(FOLDER, str(tmp_path))
  for name, least in zip(LEAST, (0.0, -1), strict=True):
    settings.update(name, least)
  compilation_cache.reset_cache()
  keep_programs()

  def compiled():
    def tripled(x):
      return 3 * x + 1

    jax.clear_caches()
    return float(jax.jit(tripled)(jnp.float32(2)))

  assert compiled() == 7
  yield tmp_path, compiled
  compilation_cache.reset_cache()


DAMAGES = {
  'cut': lambda data: data[: len(data) // 2],
  'empty': lambda data: b'',
  'other': lambda data: b'x' * len(data),
  'flipped': lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_program_is_replaced_with_one_warning(kept, damage, capsys):
  folder, compiled = kept
  (file,) = folder.glob('jit_tripled-*-cache')
  whole = file.read_bytes()
  file.write_bytes(damage(whole))
  assert compiled() == 7
  said = capsys.readouterr().err
  assert said.count('warning: ') == 1
  assert f'a compiled program of jit_tripled in {folder} was damaged' in said
  assert len(file.read_bytes()) > len(whole) / 2  # it is there again
  assert compiled() == 7
  assert 'warning' not in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_once(kept, capsys, settings):
  folder, compiled = kept
  (folder / 'file').touch()
  settings.update(FOLDER, str(folder / 'file' / 'programs'))
  compilation_cache.reset_cache()
  for _ in range(2):
    assert compiled() == 7
  said = capsys.readouterr().err
  assert 'compiled programs cannot be kept in' in said
  assert said.count('warning: ') <= 2


def test_other_warnings_are_as_they_were(kept):
  with pytest.warns(UserWarning, match='something else'):
    warnings.warn('something else', stacklevel=1)
