"""What a pipeline records must be what its network takes."""

import pathlib

import pytest

from flowdistill.build.pipelines import Pipeline

ONE = {'name': 'flux', 'target_time': None, 'scalars': ()}
TWO = {'name': 'flux', 'target_time': 'sum', 'scalars': ()}
DEV = {**TWO, 'guidance_embeds': True, 'distilled_guidance': 3.5}
SCALED = {**DEV, 'scalars': ('guidance',)}
BASE = pathlib.Path('base')


def test_jumps_are_of_equal_length():
  jumps = Pipeline(BASE, nfe=4, guidance=2.0).jumps(SCALED)
  assert jumps.step_times == [1.0, 0.75, 0.5, 0.25]
  assert jumps.guidance_scale == 2.0
  assert jumps.distilled_guidance == 3.5


def test_what_is_not_embedded_is_not_recorded():
  schnell = {**DEV, 'guidance_embeds': False}
  assert Pipeline(BASE, nfe=1).jumps(schnell).distilled_guidance is None


def test_a_network_of_one_time_has_none():
  assert Pipeline(BASE).jumps(ONE) is None


@pytest.mark.parametrize(
  ('network', 'given', 'message'),
  [
    (ONE, {'nfe': 2}, '--nfe=2 has no effect: a network of one time'),
    (TWO, {}, '--nfe is missing: the pipeline records one'),
    (TWO, {'nfe': 1, 'guidance': 2.0}, '--guidance=2 has no effect: this netw'),
    (SCALED, {'nfe': 1}, '--guidance is missing: the pipeline records one'),
    (
      {**DEV, 'distilled_guidance': None},
      {'nfe': 1},
      'network.distilled_guidance = None must be a number',
    ),
  ],
)
def test_what_is_missing_or_has_no_effect_is_named(network, given, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    Pipeline(BASE, **given).jumps(network)


@pytest.mark.parametrize('scale', [float('nan'), float('inf')])
def test_a_guidance_scale_is_finite(scale):
  with pytest.raises(ValueError, match='must be a finite number'):
    Pipeline(BASE, nfe=1, guidance=scale)


def test_what_cannot_be_written_is_found_before(tmp_path):
  with pytest.raises(ValueError, match=r'model_index\.json cannot be read'):
    Pipeline(tmp_path, nfe=1).check(TWO)
