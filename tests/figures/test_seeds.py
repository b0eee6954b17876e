"""Medians and ranges over runs that differ in their seed alone."""

import pytest
from figures.test_side_by_side import make_run, row

from flowdistill.config.bind import ConfigError
from flowdistill.jobs import compare

SEEDS = compare.Options(seeds=True, metric='frechet_digits')


def make_runs(tmp_path, values, **more):
  runs = []
  for seed, value in enumerate(values):
    config = {'seed': seed, 'train': {'steps': 2}, **more.get(f'{seed}', {})}
    rows = [row(1, value), row(2, 10 * value, accuracy=0.5)]
    runs.append(make_run(tmp_path / f'seed{seed}', {'flow': config}, rows))
  return [*map(str, runs)]


def test_a_figure_is_the_median_with_its_range(tmp_path):
  text = compare.of_runs(make_runs(tmp_path, (3.0, 1.0, 2.5)), SEEDS)
  assert text.splitlines()[2:6] == [
    '| Model | Sampler | NFE | Fréchet distance (digits) |',
    '| --- | --- | ---: | ---: |',
    '| student | flow_map | 1 | 2.50 (1.00–3.00) |',
    '| student | flow_map | 2 | 25.00 (10.00–30.00) |',
  ]
  assert 'Run = seed0, seed1, seed2' in text


def test_of_two_seeds_it_is_their_mean(tmp_path):
  text = compare.of_runs(make_runs(tmp_path, (3.0, 1.0)), SEEDS)
  assert '| 2.00 (1.00–3.00) |' in text


def test_rows_that_one_seed_lacks_are_left_out(tmp_path):
  runs = make_runs(tmp_path, (3.0, 1.0))
  rows = [row(1, 2.0), row(2, 4.0), row(8, 1.0)]
  runs.append(str(make_run(tmp_path / 'c', {'flow': {'seed': 5}}, rows)))
  with pytest.raises(ConfigError, match=r'--seeds: .* Stage flow has train'):
    compare.of_runs(runs, SEEDS)
  config = {'seed': 5, 'train': {'steps': 2}}
  runs[-1] = str(make_run(tmp_path / 'd', {'flow': config}, rows))
  text = compare.of_runs(runs, SEEDS)
  assert '1 row that is not of every seed.' in text
  assert '| 8 |' not in text


def test_equal_seeds_are_refused(tmp_path):
  runs = make_runs(tmp_path, (3.0, 1.0), **{'1': {'seed': 0}})
  with pytest.raises(ConfigError, match='has the same seed in seed0 and seed1'):
    compare.of_runs(runs, SEEDS)
  runs = make_runs(tmp_path / 'more', (1.0, 1.0, 1.0), **{'2': {'seed': 0}})
  with pytest.raises(ConfigError, match='has the same seed in seed0 and seed2'):
    compare.of_runs(runs, SEEDS)
