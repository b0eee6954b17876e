"""Flow maps in diffusers answer as our networks of two times do."""

import json

import jax
import numpy as np
import pytest
from convert.flow_map_networks import (
  SIZES,
  inputs,
  made,
  options_of,
  written,
)
from flax import nnx

from flowdistill.convert import CONVERTERS
from flowdistill.convert.diffusers_folder import open_folder
from flowdistill.convert.reading import plan_reading
from flowdistill.networks.target_time import FORMS
from flowdistill.training.named_arrays import by_name

T, S = np.array([[0.9137, 0.7], [0.2718, 0.0]], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize('name', SIZES)
@pytest.mark.parametrize(
  ('form', 'more'),
  [
    *((form, {}) for form in FORMS),
    ('scaled_gap', {'scaled': True}),
    ('sum', {'sign': True}),
    ('gated', {'embeds': False}),
  ],
)
def test_the_answer_is_ours(tmp_path, name, form, more):
  pytest.importorskip('torch')
  pytest.importorskip('diffusers')
  models = pytest.importorskip('flowdistill.convert.diffusers_models')
  network = options_of(name, form, **more)
  graph, params = made(network)
  written(tmp_path / 'new', network, params, called=True)
  x, cond = inputs(network)
  model = models.load_folder(name, tmp_path / 'new')
  with jax.default_matmul_precision('highest'):
    wanted = np.asarray(nnx.merge(graph, params)(x, T, S, cond))
  found = models.answer(name, model, x, T, S, cond)
  largest = np.abs(wanted).max()
  assert largest > 0.1
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * largest)
  other = models.answer(name, model, x, T, np.zeros_like(S), cond)
  assert np.abs(other - found)[0].max() > 1e-3 * largest  # it is told s


@pytest.mark.parametrize('name', SIZES)
@pytest.mark.parametrize('form', FORMS)
def test_a_folder_is_read_again_to_the_bit(tmp_path, name, form):
  network = options_of(name, form, scaled=True)
  _, params = made(network)
  written(tmp_path / 'new', network, params)
  found = open_folder(tmp_path / 'new')
  assert found.network == name
  assert {k: found.options[k] for k in ('target_time', 'scalars')} == {
    'target_time': form,
    'scalars': ('guidance',),
  }
  shapes = {path: x.shape for path, x in by_name(params).items()}
  rules = CONVERTERS[name].make_rules
  reading = plan_reading(found, shapes, lambda single: rules(single, 0))
  for path, array in by_name(params).items():
    again = reading.array(path, np.dtype('float32'))
    np.testing.assert_array_equal(again, array, err_msg=path)


@pytest.mark.parametrize('name', SIZES)
def test_the_class_is_ours_where_both_times_are_told(tmp_path, name):
  network = options_of(name, 'midpoint')
  _, params = made(network)
  kinds = {}
  for called in (False, True):
    path = tmp_path / str(called)
    written(path, network, params, called=called)
    config = json.loads((path / 'config.json').read_text())
    kinds[called] = config['_class_name']
    assert ('target_time' in config) == called
    assert (path / 'flow_map_transformer.py').exists() == called
  assert kinds[True] == f'FlowMap{kinds[False]}'


def test_a_sign_has_no_place_in_a_class_of_one_time(tmp_path):
  network = options_of('flux', 'midpoint', sign=True)
  _, params = made(network)
  with pytest.raises(ValueError, match=r'^times\.sign: diffusers has no such'):
    written(tmp_path / 'new', network, params)


def test_other_scalars_are_refused(tmp_path):
  network = options_of('flux', 'sum') | {'scalars': ('size',)}
  _, params = made(network)
  with pytest.raises(
    ValueError, match=r'scalars = \(\'size\',\) must be empty'
  ):
    written(tmp_path / 'new', network, params)
