"""EMAs of any length from folders of EDM2's snapshots."""

import functools
import shutil
import tracemalloc

import numpy as np
import pytest
from convert.snapshots_by_hand import snapshot, stand_ins
from flax import nnx

from flowdistill.build import snapshot_series
from flowdistill.build.snapshot_series import members_of, open_series
from flowdistill.config.bind import ConfigError
from flowdistill.convert import CONVERTERS
from flowdistill.flow.spec import DataSpec
from flowdistill.networks.edm2 import EDM2
from flowdistill.training.ema_profiles import gamma_of
from flowdistill.training.named_arrays import by_name

BATCH, STEPS, EVERY = 1024, 1600, 100
TRACKED = (0.05, 0.1)
NETWORK = {
  'name': 'edm2',
  'width': 8,
  'res_blocks': 1,
  'ch_mult': (1,),
  'attention': (),
  'head_channels': 8,
}
MADE = {
  'img_resolution': 8,
  'model_channels': 8,
  'num_blocks': 1,
  'channel_mult': [1],
  'attn_resolutions': [],
  'channels_per_head': 8,
}


@functools.cache
def shapes_of():
  options = {n: v for n, v in NETWORK.items() if n != 'name'}
  net = nnx.eval_shape(
    lambda: EDM2(DataSpec((8, 8, 3)), **options, rngs=nnx.Rngs(0))
  )
  return {path: x.shape for path, x in by_name(nnx.state(net)).items()}


def theirs_of(value, constants=1.0, dtype=np.float16):
  """All learnt arrays at a value, by their names."""
  shapes = {n: x for n, x in shapes_of().items() if not n.startswith('of_s')}
  ours = {
    path: np.full(shape, constants if 'fourier' in path else value, dtype)
    for path, shape in shapes.items()
  }
  theirs = CONVERTERS['edm2'].to_torch(ours, 8)
  return {n: np.asarray(x, order='C') for n, x in theirs.items()}


def name_of(images, sigma_rel, series='network-snapshot'):
  return f'{series}-{images // 1000:07d}-{sigma_rel:.3f}.pkl'


def written(folder, images, sigma_rel, value=0.0, **more):
  theirs = theirs_of(value, more.pop('constants', 1.0))
  path = folder / name_of(images, sigma_rel)
  path.write_bytes(snapshot(theirs, **MADE | more))
  return path


def tracked(sigma_rel, walk):
  """A power EMA after each step, updated as EDM2's training does."""
  power, ema, found = gamma_of(sigma_rel) + 1, 0.0, []
  for step, theta in enumerate(walk, start=1):
    beta = (1 - 1 / step) ** power
    ema = beta * ema + (1 - beta) * theta
    found.append(ema)
  return found


@pytest.fixture(scope='module')
def walk():
  steps = np.random.default_rng(0).normal(size=STEPS)
  return 0.1 * np.cumsum(steps) + 2


@pytest.fixture(scope='module')
def whole(tmp_path_factory, walk):
  """A folder of snapshots of a random walk, among other files."""
  folder = tmp_path_factory.mktemp('series')
  with pytest.MonkeyPatch.context() as patch:
    stand_ins(patch)
    for sigma_rel in TRACKED:
      emas = tracked(sigma_rel, walk)
      for step in range(EVERY, STEPS + 1, EVERY):
        written(folder, step * BATCH, sigma_rel, emas[step - 1])
    written(folder, 0, TRACKED[0])  # before training: it is not read
  (folder / 'training-state-0001638.pt').write_bytes(b'')
  return folder


@pytest.fixture
def series(whole, tmp_path, monkeypatch):
  """A copy of it."""
  stand_ins(monkeypatch)
  shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
  return tmp_path


def read(series):
  return series.read(NETWORK, shapes_of()).params


@pytest.mark.parametrize('sigma_rel', [0.07, 0.15])
@pytest.mark.parametrize('step', [STEPS, 12 * EVERY])
def test_any_length_is_that_of_a_brute_force_ema(series, walk, sigma_rel, step):
  kimg = None if step == STEPS else step * BATCH // 1000
  found = open_series(series, sigma_rel, kimg)
  assert found.fit.residual < 0.03
  exact = tracked(sigma_rel, walk[:step])[-1]
  for path, array in read(found).items():
    wanted = 1.0 if 'fourier' in path else exact
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, wanted, rtol=0.01, err_msg=path)
  nearest = [abs(tracked(s, walk[:step])[-1] - exact) for s in TRACKED]
  assert min(nearest) > 0.01 * exact  # no snapshot is as near


def test_a_length_that_was_tracked_is_that_snapshot(series, walk):
  found = open_series(series, 0.1)
  assert [x.path.name for x in found.used] == [name_of(STEPS * BATCH, 0.1)]
  value = np.float16(tracked(0.1, walk)[-1])
  np.testing.assert_array_equal(read(found)['first.kernel'], value)


def test_its_digest_is_of_what_is_read(series):
  before = open_series(series, 0.1), open_series(series, 0.07)
  digests = [each.digest() for each in before]
  written(series, (STEPS - EVERY) * BATCH, 0.1, 3.0)
  after = [each.digest() for each in before]
  assert after[0] == digests[0]
  assert after[1] != digests[1]
  assert 'snapshots in' in str(before[1])
  assert 'width 0.07 at 1638 thousand images' in str(before[1])


def test_one_snapshot_is_in_memory_at_a_time(tmp_path, monkeypatch):
  stand_ins(monkeypatch)
  for step in range(1, 17):
    for sigma_rel in TRACKED:
      written(tmp_path, step * EVERY * BATCH, sigma_rel, 1.0)
  size = 2_000_000
  foreign = snapshot_series.Foreign

  def large(path, network, shapes):
    return foreign({'a': np.ones(size, np.float32)}, None, {})

  monkeypatch.setattr(snapshot_series, 'read_foreign', large)
  found = open_series(tmp_path, 0.07)
  tracemalloc.start()
  total = read(found)['a']
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  np.testing.assert_allclose(total, 1, atol=1e-4)
  assert len(found.used) > 8
  assert peak < 6 * 4 * size  # not one for each snapshot


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('network-snapshot-0001638.pkl', r'0001638\.pkl must have a name such as'),
    ('notes.pkl', r'notes\.pkl must have a name such as network-sna'),
    ('a-0001638-0.050.pkl', r'-0\.050\.pkl differ in what comes before the nu'),
    ('network-snapshot-1638-0.05.pkl', 'are of the same time and width: rem'),
    ('network-snapshot-0000042-0.050.pkl', 'must be of a multiple of 1024 ima'),
    ('network-snapshot-0001638-0.500.pkl', r'500\.pkl: sigma_rel = 0\.5 must'),
  ],
)
def test_names_that_do_not_fit_are_named(tmp_path, name, message):
  (tmp_path / name_of(STEPS * BATCH, 0.05)).touch()
  (tmp_path / name).touch()
  with pytest.raises(ValueError, match=message):
    members_of(tmp_path)


def test_a_folder_without_snapshots_is_named(tmp_path):
  message = 'has no snapshots of EMAs after the first image'
  with pytest.raises(ValueError, match=message):
    open_series(tmp_path, 0.07)
  (tmp_path / name_of(0, 0.05)).touch()
  with pytest.raises(ValueError, match=message):
    open_series(tmp_path, 0.07)


def test_what_the_snapshots_do_not_reach_is_refused(tmp_path):
  for step in (1, 2, 3):
    (tmp_path / name_of(step * EVERY * BATCH, 0.05)).touch()
  message = (
    r'^--ema=0\.2 must be a width that can be reconstructed: from the 3 '
    r'snapshots in .* \(up to 307 thousand images, of the widths 0\.05\) its '
    r'profile would be off by .*; the nearest is --ema=0\.0\d+\. To reach '
    'further, add the snapshots of a second width$'
  )
  with pytest.raises(ConfigError, match=message):
    open_series(tmp_path, 0.2)
  (tmp_path / name_of(EVERY * BATCH, 0.1)).touch()
  with pytest.raises(ConfigError, match='further, add more snapshots$'):
    open_series(tmp_path, 0.2)
  with pytest.raises(ValueError, match=r'--kimg=200 .* is --kimg=204$'):
    open_series(tmp_path, 0.05, 200)


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (
      {'constants': 2.0},
      r'-0\.100\.pkl must be of the same training as network-.*; its '
      r'\w*fourier\.\w+, which is never trained, has other numbers',
    ),
    (
      {'channels_per_head': 4},
      r'-0\.100\.pkl: network\.head_channels = 8 must be 4, as in the snapshot',
    ),
  ],
)
def test_snapshots_of_different_networks_are_refused(series, more, message):
  written(series, STEPS * BATCH, 0.1, **more)
  with pytest.raises(ValueError, match=message):
    read(open_series(series, 0.07))
