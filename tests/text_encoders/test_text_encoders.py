"""The table of text encoders, and what is refused before anything is loaded."""

import dataclasses

import pytest
from defaults import defaults

from flowdistill.text_encoders import TEXT_ENCODERS, tower
from flowdistill.text_encoders.rows import ROWS
from flowdistill.text_encoders.running import Running
from flowdistill.text_encoders.tower import Tower

RUNNING = {'dtype': 'float32', 'device': '', 'batch_size': 16}
ONE = {'path': '', 'tokenizer': '', **RUNNING}
PARTS = {
  f'{name}{end}': ''
  for name in ('clip_l', 'clip_g', 't5_xxl')
  for end in ('', '_tokenizer')
}


def test_what_a_config_may_name_and_its_defaults():
  flux = {k: v for k, v in PARTS.items() if 'clip_g' not in k}
  assert defaults(TEXT_ENCODERS) == {
    'random_features': {'length': 32, 'width': 128, 'seed': 0, 'cut': True},
    'clip_l': {**ONE, 'length': 77},
    'clip_g': {**ONE, 'length': 77},
    't5_xxl': {**ONE, 'length': 512},
    'gemma_2': {**ONE, 'length': 300},
    'qwen_2_5_vl': {**ONE, 'length': 1024},
    'flux': {**flux, **RUNNING, 'length': 512},
    'sd3': {**PARTS, **RUNNING, 'length': 256},
    'openuni': {**ONE, 'internvl3': '', 'proj_type': 'enc_proj'},
  }


def files(path, *names):
  path.mkdir(exist_ok=True)
  for name in names:
    (path / name).write_text('{}')
  return str(path)


def test_folders_without_the_files_are_refused(tmp_path, monkeypatch):
  """By the key of the config; pickles do not count as weights."""
  monkeypatch.setattr(tower, 'check_installed', lambda: None)

  def refused(name, message, **options):
    with pytest.raises(ValueError, match=message):
      TEXT_ENCODERS[name](**options).check()

  refused('clip_l', "path = '' must be a folder")
  refused('clip_l', 'path = .*nowhere.* is none', path=f'{tmp_path}/nowhere')
  empty = files(tmp_path / 'empty')
  refused('t5_xxl', 'path = .* must have a config.json', path=empty)
  pickled = files(tmp_path / 'pickled', 'config.json', 'pytorch_model.bin')
  refused('gemma_2', 'must have weights as .safetensors', path=pickled)
  model = files(tmp_path / 'model', 'config.json', 'model.safetensors')
  refused('clip_g', 'tokenizer = .* a tokenizer_config.json', path=model)
  refused(
    'flux', 'clip_l_tokenizer = ', clip_l=model, clip_l_tokenizer=empty + 'x'
  )
  both = files(tmp_path / 'model', 'tokenizer_config.json')
  refused('flux', "t5_xxl = '' must be a folder", clip_l=both)
  refused('sd3', "clip_g = '' must be a folder", clip_l=both, t5_xxl=both)
  refused('openuni', "internvl3 = '' must be a folder")
  refused(
    'openuni', "^path = '' must be a .safetensors or .pth", internvl3=both
  )
  folder = {'internvl3': both, 'path': both}
  refused('openuni', 'path = .* must be a .safetensors or .pth', **folder)


def test_the_hashes_of_all_files_tell_encoders_apart(tmp_path):
  """But of what is never read, such as code."""
  path = files(tmp_path / 'm', 'config.json', 'model.safetensors', 'model.py')
  encoder = TEXT_ENCODERS['clip_l'](path=path)
  before = encoder.about()
  assert [*before['files']['path']] == ['config.json', 'model.safetensors']
  (tmp_path / 'm' / 'model.py').write_text('other')
  assert encoder.about() == before
  (tmp_path / 'm' / 'model.safetensors').write_text('other')
  assert encoder.about() != before
  running = Running(batch_size=3, device='cuda:7')
  again = TEXT_ENCODERS['clip_l'](path=path, running=running)
  assert again.about() == encoder.about()


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('clip_l', {'length': 78}, r'length = 78 must lie in 1 \.\.\. 77'),
    ('qwen_2_5_vl', {'length': 0}, 'length = 0 must lie'),
    ('flux', {'length': 4097}, 'length = 4097 must lie'),
  ],
)
def test_lengths_out_of_range_are_refused(name, options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    TEXT_ENCODERS[name](**options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'dtype': 'int8'}, "dtype = 'int8' must be 'float32' or"),
    ({'batch_size': 0}, 'batch_size = 0 must be at least 1'),
  ],
)
def test_how_it_runs_is_checked(options, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    Running(**options)


def test_the_place_of_the_linear_layer_is_one_of_three():
  with pytest.raises(ValueError, match="^proj_type = 'enc' must be of 'proj_e"):
    TEXT_ENCODERS['openuni'](proj_type='enc')


def test_the_null_of_a_row_has_no_place_for_a_prompt():
  for row in ROWS.values():
    assert row.template.count('{}') == 1
    if dataclasses.replace(row, null='{}') != row:
      assert '{}' not in row.null


@pytest.mark.parametrize(('of_t5', 'too_long'), [(10, False), (11, True)])
def test_sd3_counts_what_t5_cuts(monkeypatch, of_t5, too_long):
  """Its 77 tokens of CLIP are always there."""
  monkeypatch.setattr(Tower, 'sizes', lambda tower, captions: [of_t5])
  both = {'clip_l': 'a', 'clip_g': 'b', 't5_xxl': 'c'}
  encoder = TEXT_ENCODERS['sd3'](**both, length=10)
  (size,) = encoder.sizes(['a caption'])
  assert encoder.length == 87
  assert (size > encoder.length) == too_long
