"""Medians and ranges over runs that differ in their seed alone."""

import pytest
from figures.test_side_by_side import make_run, row

from flowdistill import main
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
  rows = [row(1, 2.0), row(2, 4.0, accuracy=0.5), row(8, 1.0)]
  runs.append(str(make_run(tmp_path / 'c', {'flow': {'seed': 5}}, rows)))
  with pytest.raises(ConfigError, match=r'--seeds: .* Stage flow has train'):
    compare.of_runs(runs, SEEDS)
  config = {'seed': 5, 'train': {'steps': 2}}
  runs[-1] = str(make_run(tmp_path / 'd', {'flow': config}, rows))
  text = compare.of_runs(runs, SEEDS)
  assert '1 row is not of every seed, or were measured' in text
  assert '| 8 |' not in text


def runs_of(tmp_path, *rows, config=None):
  """A run of each list of rows; they differ in the seed."""
  return [
    str(
      make_run(tmp_path / f'{k}', {**(config or {}), 'flow': {'seed': k}}, each)
    )
    for k, each in enumerate(rows)
  ]


@pytest.mark.parametrize('last', [0, 2])
def test_a_seed_that_diverged_is_no_seed_of_the_median(tmp_path, last):
  gone = {k: v for k, v in row(1, 0.0).items() if k != 'frechet_digits'}
  rows = [[row(1, 2.0)], [row(1, 4.0)]]
  rows.insert(last, [{**gone, 'diverged': 4}])
  text = compare.of_runs(runs_of(tmp_path, *rows), SEEDS)
  assert '2 rows are not of every seed' in text
  assert '3.00' not in text


@pytest.mark.parametrize('order', [(2.0, 'nan', 1.0), ('nan', 2.0, 1.0)])
def test_with_a_figure_that_is_not_a_number_there_is_no_median(tmp_path, order):
  rows = [[row(1, value)] for value in order]
  text = compare.of_runs(runs_of(tmp_path, *rows), SEEDS)
  assert '| nan (nan–nan) |' in text


def test_figures_of_several_evaluators_are_all_there(tmp_path):
  about = {'model': 'student', 'samples': 600, 'seed': 0}
  rows = [[{**about, 'loss': 1.0}, {**about, 'error': 2.0}]] * 2
  text = compare.of_runs(runs_of(tmp_path, *rows), compare.Options(seeds=True))
  assert '1 (1–1)' in text and '2 (2–2)' in text


def test_an_adaptive_sampler_has_a_median_of_calls(tmp_path):
  rows = [[row(nfe, 1.0, adaptive=True)] for nfe in (57.0, 60.5, 58.0)]
  text = compare.of_runs(runs_of(tmp_path, *rows), SEEDS)
  assert 'NFE = 58' in text or '| 58 |' in text


def test_what_does_not_train_needs_no_seed(tmp_path):
  config = {'encode': {'job': 'encode', 'seed': 0}}
  rows = [[row(1, 2.0)], [row(1, 4.0)]]
  text = compare.of_runs(runs_of(tmp_path, *rows, config=config), SEEDS)
  assert '3.00 (2.00–4.00)' in text


def test_a_run_without_a_stage_is_refused(tmp_path):
  a, b = runs_of(tmp_path, [row(1, 2.0)], [row(1, 4.0)])
  (tmp_path / '1' / 'flow' / 'config.json').write_text('{')
  with pytest.raises(ConfigError, match='Stage flow must be in every run'):
    compare.of_runs([a, b], SEEDS)


def test_it_may_stand_before_the_runs():
  words = ['--job=compare', '--seeds', 'a', '--metric', 'fid', 'b']
  _, rest, runs = main.split_arguments(words)
  assert (rest, runs) == ([('seeds', None), ('metric', 'fid')], ['a', 'b'])
  _, rest, runs = main.split_arguments(['--seeds', 'False', 'a'])
  assert (rest, runs) == ([('seeds', 'False')], ['a'])


def test_equal_seeds_are_refused(tmp_path):
  runs = make_runs(tmp_path, (3.0, 1.0), **{'1': {'seed': 0}})
  with pytest.raises(ConfigError, match='has the same seed in seed0 and seed1'):
    compare.of_runs(runs, SEEDS)
  runs = make_runs(tmp_path / 'more', (1.0, 1.0, 1.0), **{'2': {'seed': 0}})
  with pytest.raises(ConfigError, match='has the same seed in seed0 and seed2'):
    compare.of_runs(runs, SEEDS)
