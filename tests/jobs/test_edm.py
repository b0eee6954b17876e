"""EDM's snapshots as runs, and EMAs of EDM2's series; see test_edm2.py."""

import json

import numpy as np
import pytest
from convert.snapshots_by_hand import snapshot, stand_ins
from jobs import test_edm2, tiny
from jobs.test_edm2 import half, no_check, stages, theirs_of

import flowdistill
from flowdistill.config.bind import ConfigError
from flowdistill.jobs import convert, train
from flowdistill.training.named_arrays import by_name

__all__ = ['no_check']
NETWORK = {
  'name': 'edm_ncsnpp',
  'nf': 8,
  'res_blocks': 1,
  'ch_mult': (1,),
  'attention': (),
  'augment_dim': 9,
}
MADE = {
  'img_resolution': 8,
  'img_channels': 1,
  'label_dim': 10,
  'model_type': 'SongUNet',
  'model_channels': 8,
  'num_blocks': 1,
  'channel_mult': [1],
  'attn_resolutions': [],
  'augment_dim': 9,
}


def of_edm(theirs, kind='EDMPrecond', **more):
  """The bytes of a snapshot of a preconditioning with a network inside."""
  below = {f'model.{name}': array for name, array in theirs.items()}
  return snapshot(below, kind, **MADE | more)


@pytest.mark.usefixtures('no_check')
@pytest.mark.slow
def test_a_snapshot_and_back(tmp_path, monkeypatch):
  stand_ins(monkeypatch)
  specs = stages(tmp_path, network=NETWORK)
  file, to = tmp_path / 'w.pkl', tmp_path / 'run'
  theirs = half(theirs_of(specs))
  file.write_bytes(of_edm(theirs))
  tiny.run(
    convert, specs, tmp_path, convert.Options(from_=str(file), to=str(to))
  )
  model = flowdistill.load(to).models['student']
  kernel = by_name(model.params)['first.kernel']
  first = theirs['enc.8x8_conv.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(kernel, first.astype(np.float32))
  new = tmp_path / 'new.pkl'
  back = convert.Options(to=str(new), like=str(file), weights='params')
  tiny.run(convert, specs, to, back)
  assert new.read_bytes() == file.read_bytes()
  # It teaches a student that starts from it, and embeds t itself.
  student = stages(
    tmp_path,
    network={**NETWORK, 'time': 'linear'},
    objective={'name': 'ayf_emd', 'warmup_steps': 1},
    frozen={'teacher': str(to)},
    init_from=str(to),
  )
  tiny.run(train, student, tmp_path / 'student', train.Options())
  assert flowdistill.load(tmp_path / 'student').sample(2, nfe=1).shape == (
    *(2, 8, 8),
    1,
  )


@pytest.mark.parametrize(
  ('made', 'message'),
  [
    (
      {'sigma_data': 1.0},
      r'w\.pkl: network\.sigma_data = 0\.5 must be 1\.0, as',
    ),
    (
      {'kind': 'VPPrecond'},
      r"network\.precond = 'edm' must be 'vp', as in the",
    ),
    ({'augment_dim': 0}, r'network\.augment_dim = 9 must be 0, as in the snap'),
    (
      {'model_type': 'DhariwalUNet'},
      r"network\.name = 'edm_ncsnpp' must be the network of its model_type",
    ),
    ({'kind': 'Precond'}, 'it is a snapshot of Precond, and must be one of ED'),
  ],
)
def test_a_snapshot_of_another_network_is_refused(
  tmp_path, monkeypatch, made, message
):
  stand_ins(monkeypatch)
  specs = stages(tmp_path, network=NETWORK)
  (tmp_path / 'w.pkl').write_bytes(of_edm(half(theirs_of(specs)), **made))
  options = convert.Options(
    from_=str(tmp_path / 'w.pkl'), to=str(tmp_path / 'run')
  )
  with pytest.raises(ConfigError, match=message):
    tiny.run(convert, specs, tmp_path, options)
  assert not list(tmp_path.glob('run*'))


@pytest.mark.usefixtures('no_check')
@pytest.mark.slow
def test_an_ema_of_a_folder_of_snapshots(tmp_path, monkeypatch):
  stand_ins(monkeypatch)
  specs, folder, to = stages(tmp_path), tmp_path / 'in', tmp_path / 'run'
  theirs = half(theirs_of(specs))
  folder.mkdir()
  for time in range(1, 17):
    for sigma_rel in (0.05, 0.1):
      scaled = {n: x if 'fourier' in n else x * 2 for n, x in theirs.items()}
      name = (
        f'network-snapshot-{time * 8388608 // 1000:07d}-{sigma_rel:.3f}.pkl'
      )
      (folder / name).write_bytes(snapshot(scaled, **test_edm2.MADE))
  options = convert.Options(from_=str(folder), ema=0.07, to=str(to))
  tiny.run(convert, specs, tmp_path, options)
  said = json.loads((to / 'conversion.json').read_text())
  assert said['source'].endswith('width 0.07 at 134217 thousand images')
  assert 0 < said['residual'] < 0.03
  model = flowdistill.load(to).models['student']
  kernel = by_name(model.params)['first.kernel']
  first = theirs['unet.enc.8x8_conv.weight'].transpose(2, 3, 1, 0)
  np.testing.assert_allclose(kernel, 2 * first.astype(np.float32), rtol=1e-4)


def test_folders_and_lengths_that_do_not_fit_are_named(tmp_path):
  specs, file = stages(tmp_path), tmp_path / 'w.pkl'
  file.write_bytes(b'x')

  def message(**options):
    with pytest.raises(ConfigError) as error:
      tiny.run(
        convert,
        specs,
        tmp_path,
        convert.Options(to=str(tmp_path / 'r'), **options),
      )
    return str(error.value)

  assert 'such as --ema=0.07' in message(from_=str(tmp_path))
  assert 'w.pkl is a file, whose' in message(from_=str(file), ema=0.07)
  assert 'nowhere is missing' in message(from_=f'{tmp_path}/nowhere', ema=0.07)
  file.unlink()
  assert 'has no snapshots of EMAs' in message(from_=str(tmp_path), ema=0.07)
  assert not (tmp_path / 'r').exists()
  with pytest.raises(
    ConfigError, match='--kimg=5 needs --from, a folder of sn'
  ):
    convert.Options(to='r.npz', kimg=5)
  with pytest.raises(ConfigError, match=r'--ema=0\.5 must lie between'):
    convert.Options(from_='in', to='r', ema=0.5)
