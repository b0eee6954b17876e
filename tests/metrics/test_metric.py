"""The table of metrics."""

import inspect

import numpy as np
import pytest

from flowdistill.metrics import METRICS
from flowdistill.metrics.metric import OF_INCEPTION, figure_name
from flowdistill.metrics.moments import moments

X = np.random.default_rng(0).standard_normal((30, 4))
TINY = {'kernel': {'subsets': 2, 'size': 10}}


def inputs(needs):
  if needs in ('moments', 'spatial'):
    return moments(X), moments(X[::-1])
  return (X,) if needs == 'logits' else (X, X[::-1])


@pytest.mark.parametrize('name', METRICS)
def test_it_is_called_as_its_row_says(name):
  metric = METRICS[name]
  found = metric.function(*inputs(metric.needs), **TINY.get(name, {}))
  assert found
  assert all(type(value) is float for value in found.values())
  assert not any(figure in OF_INCEPTION.values() for figure in found)


def test_figures_of_two_metrics_have_two_names():
  names = [
    figure
    for name, m in METRICS.items()
    for figure in m.function(*inputs(m.needs), **TINY.get(name, {}))
  ]
  assert len(set(names)) == len(names)
  assert set(OF_INCEPTION) <= set(names)


@pytest.mark.parametrize('name', METRICS)
def test_options_are_keywords_with_defaults(name):
  parameters = inspect.signature(METRICS[name].function).parameters.values()
  assert all(
    p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY
  )
  assert 'https://' in METRICS[name].source


def test_options_are_those_of_the_papers():
  assert METRICS['precision_recall'].options == {'k': 3}
  assert METRICS['density_coverage'].options == {'k': 5}
  assert METRICS['inception_score'].options == {'splits': 10, 'seed': 0}
  assert METRICS['kernel'].options == {'subsets': 100, 'size': 1000, 'seed': 0}
  assert METRICS['frechet'].options == {}


def test_fid_is_what_inception_measures_and_nothing_else():
  assert figure_name('frechet', 'inception') == 'fid'
  assert figure_name('spatial_frechet', 'inception') == 'sfid'
  assert figure_name('kernel_error', 'inception') == 'kid_error'
  assert figure_name('precision', 'inception') == 'precision'
  assert figure_name('frechet', 'digits') == 'frechet_digits'
  assert figure_name('frechet', 'dinov2') == 'frechet_dinov2'
