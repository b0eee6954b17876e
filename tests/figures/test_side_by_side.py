"""Markdown of several runs: the table, and in what the runs differ."""

import pytest
from absl import flags
from absl.testing import flagsaver

from flowdistill import main
from flowdistill.config.bind import ConfigError
from flowdistill.figures.differences import of_configs
from flowdistill.figures.markdown import code, escaped
from flowdistill.figures.runs import Stage
from flowdistill.figures.side_by_side import MOST_KEYS, side_by_side
from flowdistill.jobs import compare
from flowdistill.training.json_files import write_json

ROW = {'model': 'student', 'sampler': 'flow_map', 'samples': 600, 'seed': 0}
PLAIN = compare.Options()


def row(nfe, value, **more):
  return {**ROW, 'nfe': nfe, 'step': 2, 'frechet_digits': value, **more}


def make_run(workdir, configs, rows=()):
  """A run with the configs of its stages; the last one has rows."""
  workdir.mkdir(parents=True)
  write_json(workdir / 'config.json', {'stages': [*configs]})
  for name, config in configs.items():
    (workdir / name).mkdir()
    write_json(workdir / name / 'config.json', {'config': config})
  write_json(workdir / [*configs][-1] / 'results.json', list(rows))
  return workdir


@pytest.fixture
def two(tmp_path):
  a, b = {'train': {'steps': 1}}, {'train': {'steps': 2}}
  rows = [row(1, 4.0), row(1, 9.0, step=1)]
  other = [row(1, 2.0), row(2, 3.0, samples=50, accuracy=0.5)]
  return [
    make_run(tmp_path / 'a', {'flow': a, 'emd': a}, rows),
    make_run(tmp_path / 'b', {'flow': a, 'emd': b}, other),
  ]


def test_runs_are_compared_in_one_table(two, tmp_path, capsys):
  out = tmp_path / 'c.md'
  text = compare.of_runs([*map(str, two)], compare.Options(out=str(out)))
  assert out.read_text() == text
  assert capsys.readouterr().out == f'{text}\nthe table is {out}\n'
  f = 'Fréchet distance (digits): samples ='
  assert text.splitlines()[:7] == [
    '# a and b',
    '',
    f'| Run | Model | Sampler | NFE | {f} 600 | {f} 50 | Accuracy |',
    '| --- | --- | --- | ---: | ---: | ---: | ---: |',
    '| a | student | flow_map | 1 | 4.00 |  |  |',
    '| b | student | flow_map | 1 | 2.00 |  |  |',
    '| b | student | flow_map | 2 |  | 3.00 | 50.0% |',
  ]
  for line in (
    'In all rows: Stage = emd; Step = 2; seed = 0.',
    '- Fréchet distance (digits) is in 2 columns: `samples` = `600` (a and b),'
    ' `50` (b)',
    '- Accuracy: `samples` = `50`',
    '- `train.steps`: a = `1`, b = `2`',
    '- a, emd: 1 row of earlier checkpoints (step 1); --steps=all shows them.',
  ):
    assert line in text.splitlines()
  assert 'No key differs.' in text  # of the stage flow
  whole = compare.of_runs([*map(str, two)], compare.Options(steps='all'))
  assert '| 9.00 |' in whole and 'left out' not in whole


def test_the_command_takes_folders_without_a_config(two, monkeypatch, capsys):
  monkeypatch.chdir(two[0].parent)
  given = ['--job=compare', 'a', 'b', '--metric=accuracy']
  run_main(given)
  text = capsys.readouterr().out
  assert '50.0%' in text and 'Fréchet' not in text
  for more, why in (
    ('--config=c.py', '--config has no effect with --job=compare a b'),
    ('--config.seed=1', '--config has no effect with --job=compare a b'),
    ('--workdir=W', '--workdir=W has no effect with --job=compare a b'),
  ):
    with pytest.raises(ConfigError, match=why):
      run_main([*given, more])


def run_main(arguments):
  ours, rest, words = main.split_arguments(arguments)
  with flagsaver.flagsaver():
    flags.FLAGS(['flowdistill', *ours])
    main.main(rest, words)


def test_what_is_refused(two, tmp_path):
  a, b = map(str, two)
  empty = [str(make_run(tmp_path / n, {'flow': {}})) for n in 'cd']
  (tmp_path / 'no').mkdir()
  for runs, options, why in [
    ([a], PLAIN, r'--job=compare .*a must be given at least two runs'),
    ([a, f'{b}/../a'], PLAIN, 'must be named once'),
    ([a, f'{tmp_path}/no'], PLAIN, 'no must be the folder of a run: there'),
    ([a, f'{tmp_path}/none'], PLAIN, 'must be the folder of a run: there'),
    (empty, PLAIN, 'none of the runs has results: evaluate them first'),
    (
      [a, b],
      compare.Options('frechet'),
      "--metric=frechet was.*mean 'frechet_",
    ),
    ([a, b], compare.Options('samples'), '--metric=samples was measured by no'),
    (
      [a, b],
      compare.Options('accuracy,x'),
      '--metric=x was measured by no run',
    ),
    ([a, b], compare.Options(out=f'{tmp_path}/x/y.md'), 'must be a file in a'),
    ([a, b], compare.Options(out=a), 'must be a file in a folder that exists'),
  ]:
    with pytest.raises(ConfigError, match=why):
      compare.of_runs(runs, options)
  with pytest.raises(ConfigError, match='--steps=3 must be last or all'):
    compare.Options(steps='3')


def test_a_bias_or_a_spread_is_no_metric(tmp_path):
  rows = [row(1, 1.0, frechet_digits_bias=0.5, frechet_digits_spread=0.25)]
  a, b = (str(make_run(tmp_path / n, {'flow': {}}, rows)) for n in 'ab')
  for end in ('bias', 'spread'):
    with pytest.raises(ConfigError, match='was measured by no run'):
      compare.of_runs([a, b], compare.Options(f'frechet_digits_{end}'))


def test_figures_of_earlier_checkpoints_alone_are_said(tmp_path):
  rows = [row(1, 1.0, step=1, accuracy=0.5), row(1, 1.0)]
  runs = [str(make_run(tmp_path / n, {'flow': {}}, rows)) for n in 'ab']
  text = compare.of_runs(runs, compare.Options('accuracy'))
  assert 'No row of these checkpoints has such a figure.' in text
  assert '(step 1); --steps=all shows them' in text
  every = compare.of_runs(runs, compare.Options('accuracy', 'all'))
  assert every.count('| 50.0% |') == 2


def test_a_run_without_results_and_a_damaged_one_are_said(two, tmp_path):
  empty = make_run(tmp_path / 'empty', {'emd': {}})
  (two[0] / 'emd' / 'results.json').write_text('[{')
  (two[0] / 'emd' / 'config.json').write_text('{')
  text = compare.of_runs([*map(str, [*two, empty])], PLAIN)
  for said in (
    'a has no results.',
    'empty has no results.',
    'is cut at column 3',
  ):
    assert said in text
  assert "The stage 'flow' is in a and b only." in text
  assert 'In all rows: Run = b; Stage = emd;' in text


def test_keys_of_configs_that_differ(tmp_path):
  one = {
    'a': {'b': 1, 'c': [1, 2], 'same': None},
    'net': 'mlp',
    'gone': {'x': 1},
  }
  two = {'a': {'b': 2, 'c': [1, 2], 'same': None}, 'net': {'name': 'dit'}}
  runs = {
    'r': make_run(tmp_path / 'r', {'flow': one, 'emd': {}}),
    's': make_run(tmp_path / 's', {'flow': two, 'lmd': {'x': True}}),
  }
  flow, last = of_configs(runs, notes := [])
  assert flow.title == 'Stage flow' and [*flow.runs] == ['r', 's']
  assert flow.keys == {
    'a.b': ['1', '2'],
    'net': ['"mlp"', '{"name": "dit"}'],
    'gone': ['{"x": 1}', '–'],
  }
  assert last.title == 'The last stages, emd and lmd'
  assert last.keys == {'x': ['–', 'true']}
  assert notes == [
    "The stage 'emd' is in r only.",
    "The stage 'lmd' is in s only.",
  ]


def test_many_keys_are_counted(tmp_path):
  one, two = ({f'k{n}': n + more for n in range(70)} for more in (0, 1))
  runs = [
    make_run(tmp_path / name, {'flow': spec}, [row(1, 1.0)])
    for name, spec in (('a', one), ('b', two))
  ]
  text = compare.of_runs([*map(str, runs)], PLAIN)
  assert text.count('- `k') == MOST_KEYS
  assert f'- {70 - MOST_KEYS} more keys differ' in text


def test_marks_names_and_biases_are_in_the_text(tmp_path):
  rows = [row(1, 1.0, trained_on='vgg16', options='a|b <x>\n*')]
  rows += [row(1, 2.0, options='', frechet_digits_bias=0.5)]
  stages = [Stage(name, 'emd', rows) for name in ('a', 'b')]
  runs = {n: make_run(tmp_path / n, {'emd': {}}) for n in 'ab'}
  text = side_by_side(runs, stages)
  lines = text.splitlines()
  assert any(line.startswith('† The feature network') for line in lines)
  assert '0.5 of Fréchet distance (digits) (trained\\_on' not in text
  table = [line for line in lines if line.startswith('| a')]
  assert r'a\|b &lt;x&gt; \*' in table[0] and '1.00†' in table[0]
  assert '2.00 |' in table[1]
  assert '0.5 of Fréchet distance (digits) (trained_on = –) is due' in text


def test_text_stands_as_it_is():
  assert escaped('flow_map _a_ `x` [y](z) a\nb') == (
    r'flow_map \_a\_ \`x\` \[y](z) a b'
  )
  assert (code('a'), code('a`b'), code('')) == ('`a`', '`` a`b ``', '` `')
