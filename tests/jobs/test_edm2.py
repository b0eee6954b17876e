"""EDM2 as a run: trained, and from files and snapshots and back to the byte."""

import json

import numpy as np
import pytest
from convert.snapshots_by_hand import snapshot, stand_ins
from jobs import tiny
from jobs.test_convert import foreign
from safetensors.numpy import load_file, save_file

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import convert, train
from flowdistill.training.named_arrays import by_name
from flowdistill.workdir.record import load_spec

NETWORK = {
  'name': 'edm2',
  'width': 8,
  'res_blocks': 1,
  'ch_mult': (1,),
  'attention': (),
  'head_channels': 4,
}
MADE = {
  'img_resolution': 8,
  'img_channels': 1,
  'label_dim': 10,
  'model_channels': 8,
  'num_blocks': 1,
  'channel_mult': [1],
  'attn_resolutions': [],
  'channels_per_head': 4,
}


def stages(folder, **more):
  stage = {
    'dataset': 'digits',
    'network': NETWORK,
    'objective': 'rectified_flow',
    'train': {'steps': 1, 'batch_size': 4},
    'ema': {'main': {'half_life': {'steps': 9}}},
    **more,
  }
  path = folder / 'config.py'
  path.write_text(f'def get_config(arg=""):\n  return {stage!r}\n')
  return tiny.stages(path)


def theirs_of(specs):
  return {
    n: np.asarray(x, order='C') for n, x in foreign(specs['run'])[0].items()
  }


def half(arrays):
  return {name: x.astype(np.float16) for name, x in arrays.items()}


@pytest.fixture
def no_check(monkeypatch):
  """The check of velocities compiles the network twice."""
  monkeypatch.setattr(
    'flowdistill.stages.conversion.compare', lambda *_: (0, 1)
  )


@pytest.mark.slow
def test_training_keeps_its_weights_at_magnitude_1(tmp_path):
  """Not those of the embedding of s; and the constants do not decay."""
  decays = {'name': 'adamw', 'weight_decay': 9.0}
  constant = {'name': 'constant', 'learning_rate': 0.01}
  optim = {'optimiser': decays, 'schedule': constant}
  two = stages(tmp_path, optim=optim, train={'steps': 2, 'batch_size': 4})
  run = tmp_path / 'run'
  tiny.run(train, two, run, train.Options())
  stage = tiny.blueprint(two['run'], run, run)
  start = by_name(stage.init('student'))
  found = by_name(
    flowdistill.load(run, weights='params').models['student'].params
  )
  for name, array in found.items():
    kernel, first = np.asarray(array), np.asarray(start[name])
    if 'fourier' in name:
      np.testing.assert_allclose(kernel, first, rtol=1e-6)
    elif name.endswith('kernel') and 'of_s' not in name:
      size = np.sqrt(np.square(kernel).mean(tuple(range(kernel.ndim - 1))))
      np.testing.assert_allclose(size, 1, atol=1e-3)
      assert np.abs(kernel - first).max() > 1e-3


@pytest.mark.slow
def test_a_file_and_back(tmp_path):
  specs, file, to = stages(tmp_path), tmp_path / 'w.safetensors', tmp_path / 'r'
  theirs = theirs_of(specs)
  save_file(theirs, file)
  options = convert.Options(from_=str(file), to=str(to))
  made = tiny.run(convert, specs, tmp_path, options)
  assert made.largest_error < 1e-4 < made.largest_velocity
  assert all(name.startswith('of_s.') for name in made.ours_alone)
  assert load_spec(to)['evaluation']['grid'] == {'name': 'karras'}
  assert flowdistill.load(to).sample(2, nfe=1).shape == (2, 8, 8, 1)
  for name, read in (('b.npz', np.load), ('b.safetensors', load_file)):
    options = convert.Options(to=str(tmp_path / name), weights='params')
    tiny.run(convert, specs, to, options)
    back = dict(read(tmp_path / name))
    assert back.keys() == theirs.keys()
    for array_name, x in theirs.items():
      assert back[array_name].shape == x.shape
      assert back[array_name].tobytes() == x.tobytes()


@pytest.mark.usefixtures('no_check')
@pytest.mark.slow
def test_a_snapshot_and_back(tmp_path, monkeypatch):
  stand_ins(monkeypatch)
  specs, file, to = stages(tmp_path), tmp_path / 'w.pkl', tmp_path / 'run'
  theirs = half(theirs_of(specs))
  file.write_bytes(snapshot(theirs, **MADE))
  options = convert.Options(from_=str(file), to=str(to))
  assert not tiny.run(convert, specs, tmp_path, options).averages
  said = json.loads((to / 'conversion.json').read_text())
  assert said['prefixes'] == {'params': ['ema.'], 'ema': []}
  model = flowdistill.load(to).models['student']
  kernel = by_name(model.params)['first.kernel']
  first = theirs['unet.enc.8x8_conv.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(kernel, first.astype(np.float32))
  new = tmp_path / 'new.pkl'
  back = convert.Options(to=str(new), like=str(file), weights='params')
  tiny.run(convert, specs, to, back)
  assert new.read_bytes() == file.read_bytes()
  # Into one of other numbers, whose source and options stay.
  other, same = tmp_path / 'other.pkl', tmp_path / 'same.pkl'
  other.write_bytes(snapshot({n: 0 * x for n, x in theirs.items()}, **MADE))
  tiny.run(convert, specs, to, convert.Options(to=str(same), like=str(other)))
  assert same.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
  ('made', 'message'),
  [
    (
      {'channels_per_head': 8, 'sigma_data': 1.0},
      r'w\.pkl: network\.head_channels = 4 must be 8, '
      r'network\.sigma_data = 0\.5 must be 1\.0, as in the snapshot',
    ),
    (
      {'kind': 'EDMPrecond'},
      r'w\.pkl: it is a snapshot of EDMPrecond, and mus',
    ),
    ({'res_balance': 0.5}, 'res_balance = 0.5, which must be 0.3'),
  ],
)
def test_a_snapshot_of_another_network_is_refused(
  tmp_path, monkeypatch, made, message
):
  stand_ins(monkeypatch)
  specs = stages(tmp_path)
  theirs = half(theirs_of(specs))
  (tmp_path / 'w.pkl').write_bytes(snapshot(theirs, **(MADE | made)))
  options = convert.Options(
    from_=str(tmp_path / 'w.pkl'), to=str(tmp_path / 'run')
  )
  with pytest.raises(ConfigError, match=message):
    tiny.run(convert, specs, tmp_path, options)
  assert not list(tmp_path.glob('run*'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'to': 'a.pkl'}, r'--to=a\.pkl must end in .*; \.pkl needs --like'),
    (
      {'to': 'a.npz', 'like': 'b.pkl'},
      r'--to=a\.npz must end in \.pkl: with --',
    ),
    (
      {'to': 'a', 'like': 'b.pkl', 'from_': 'c.pkl'},
      r'--like=b\.pkl has no effect with --from',
    ),
  ],
)
def test_options_of_snapshots_that_cannot_be_raise(options, message):
  with pytest.raises(ConfigError, match=message):
    convert.Options(**options)
