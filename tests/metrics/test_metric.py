"""The table of metrics."""

import inspect

import numpy as np
import pytest

from flowdistill.metrics import METRICS
from flowdistill.metrics.metric import OF_INCEPTION, figure_name
from flowdistill.metrics.moments import moments

X = np.random.default_rng(0).standard_normal((30, 4))
TINY = {'kernel': {'subsets': 2, 'size': 10}}


def inputs(needs, n=30):
  if needs in ('moments', 'spatial'):
    return moments(X[:n]), moments(X)
  return (X[:n],) if needs == 'logits' else (X[:n], X[::-1][:n])


@pytest.mark.parametrize('name', METRICS)
def test_it_is_called_as_its_row_says(name):
  metric = METRICS[name]
  found = metric.function(*inputs(metric.needs), **TINY.get(name, {}))
  assert found
  assert all(type(value) is float for value in found.values())
  assert not any(figure in OF_INCEPTION.values() for figure in found)


@pytest.mark.parametrize(
  ('name', 'options', 'least'),
  [
    ('frechet', {}, 2),
    ('spatial_frechet', {}, 2),
    ('clip_score', {}, 2),
    ('inception_score', {'splits': 5}, 5),
    ('kernel', {'size': 9, 'subsets': 2}, 9),
    ('kernel', {'subsets': None}, 3),
    ('precision_recall', {}, 4),
    ('precision_recall', {'k': 7}, 8),
    ('density_coverage', {}, 6),
  ],
)
def test_so_many_samples_are_enough_and_one_less_is_not(name, options, least):
  metric = METRICS[name]
  assert metric.least(**{**metric.options, **options}) == least
  assert metric.function(*inputs(metric.needs, least), **options)
  with pytest.raises(ValueError, match=r'at least|must be|needs|needed'):
    metric.function(*inputs(metric.needs, least - 1), **options)


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
