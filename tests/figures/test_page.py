"""report.html: what it shows, that names are escaped, its size, no requests."""

import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from flowdistill.config.bind import ConfigError
from flowdistill.evaluators.sheets import write_sheet
from flowdistill.evaluators.sweep import SweepEntry
from flowdistill.figures import page, runs
from flowdistill.figures.lines import rows_of
from flowdistill.figures.page import PAGE, forgiving, refresh, write_page
from flowdistill.figures.tabulated import tabulate
from flowdistill.jobs import report
from flowdistill.training.json_files import write_json

NASTY = '"><img src=x onerror=alert(1)>'
TAG = '<script>alert(1)</script>'
SUM, RESULT = '{{ 7919 * 6841 }}', '54173879'
ADDRESSES = ('src', 'href', 'srcset', 'action', 'data', 'poster', 'xlink:href')


def row(model, nfe, value, **more):
  about = {'model': model, 'sampler': 'flow_map', 'nfe': nfe, 'step': 2}
  about |= {'samples': 600, 'seed': 0, 'frechet_digits': value}
  return {**about, 'precision': value / 9, **more}


ROWS = [row('teacher', n, 8 / n) for n in (1, 2, 4)]
ROWS += [row('student', n, 2 / n, options='gamma=0.5') for n in (1, 2)]


def make_run(workdir, *, stages=('flow', 'distil'), rows=ROWS, images=True):
  """A run whose last stage was evaluated at steps 1 and 2."""
  workdir.mkdir(parents=True)
  write_json(workdir / 'config.json', {'stages': list(stages)})
  for name in stages:
    (workdir / name).mkdir()
    write_json(workdir / name / 'config.json', {'config': {}})
    lines = [{'step': k, 'images': k, 'loss': 2 / k} for k in range(1, 9)]
    text = ''.join(f'{json.dumps(line)}\n' for line in lines)
    (workdir / name / 'metrics.jsonl').write_text(text)
  last = workdir / stages[-1]
  write_json(last / 'results.json', rows)
  if images:
    for step, folder in [(1, last / 'evaluations' / '00000001'), (2, last)]:
      draw(folder, step)
  return workdir


def draw(folder, seed, *, size=8, models=('teacher', 'student')):
  rng = np.random.default_rng(seed)
  for model in models:
    for nfe in (1, 2):
      entry = SweepEntry(model, 'euler', nfe, {'guidance': 1.5})
      x = rng.uniform(-1, 1, (10, size, size, 3))
      write_sheet(folder, entry, x, seed=0)


class Elements(html.parser.HTMLParser):
  """Collects (tag, attributes), and the text outside of script and style."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text, self.open = [], '', []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self.open.append(tag)

  def handle_endtag(self, tag):
    if tag in self.open:
      del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]

  def handle_data(self, data):
    if not {'script', 'style'} & set(self.open):
      self.text += data

  def named(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def read(workdir):
  refresh(workdir)
  return Elements((workdir / PAGE).read_text())


def show(rows):
  """The page of rows that an older or a newer version may have written."""
  return Elements(page.page(['run'], [runs.Stage('', 'run', rows)]))


def assert_no_request(found):
  for tag, attributes in found.tags:
    assert not [name for name in attributes if name.startswith('on')], tag
    assert 'style' not in attributes, tag  # the policy would refuse it
    for name in ADDRESSES:
      address = attributes.get(name, 'data:')
      assert address.startswith(('data:', '#')), (tag, address)
  texts = [a.get('content', '') for a in found.named('meta')]
  assert "default-src 'none'" in ' '.join(texts)
  assert not found.named('link')[1:]


def test_a_page_shows_figures_losses_and_samples_without_a_request(tmp_path):
  found = read(make_run(tmp_path / 'run'))
  assert_no_request(found)
  assert [a['scope'] for a in found.named('th')] == ['col'] * 6
  for word in ('Fréchet distance (digits)', 'Precision', 'gamma=0.5', 'loss'):
    assert word in found.text
  assert len(found.named('tr')) == 1 + len(ROWS)
  assert [a['name'] for a in found.named('input')] == ['step', 'nfe']
  assert sum('data-at' in a for a in found.named('img')) == 8
  assert 'In all rows: Step = 2; samples = 600; seed = 0.' in found.text


def test_css_and_script_use_nothing_from_outside(tmp_path):
  make_run(tmp_path / 'run', images=False)
  refresh(tmp_path / 'run')
  text = (tmp_path / 'run' / PAGE).read_text()
  assert not re.search(r'https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp', text)


@pytest.mark.parametrize('name', [TAG, NASTY, "' onload='x", SUM])
def test_names_are_escaped_wherever_they_come_from(tmp_path, name):
  """Of runs, models, samplers, options, figures and contact sheets."""
  rows = [
    {**row(name, n, 2.0), 'sampler': name, 'options': name, name: 1.5}
    | {'reference': name}
    for n in (1, 2)
  ]
  folder = re.sub(r'/', '_', name)
  workdir = make_run(tmp_path / folder, rows=rows, images=False)
  draw(workdir / 'distil', 0, models=[name])
  (workdir / 'distil' / 'metrics.jsonl').write_text(
    json.dumps({'step': 1, 'loss': 1.0, name: 2.0}) + '\n'
  )
  (workdir / 'distil' / 'samples').mkdir()
  Image.new('L', (3, 3)).save(workdir / 'distil' / 'samples' / f'{folder}.png')
  plain = read(make_run(tmp_path / 'plain'))
  found = read(workdir)
  assert_no_request(found)
  assert {tag for tag, _ in found.tags} - {'details', 'summary', 'small'} == {
    tag for tag, _ in plain.tags
  }
  assert len(found.named('script')) == 1
  assert name in found.text and RESULT not in found.text
  more = show([{**rows[0], 'classes': [name], 'nested': {name: name}}] * 2)
  assert_no_request(more)
  assert len(more.named('script')) == 1 and not more.named('img')


def test_figures_that_were_measured_differently_share_no_column(tmp_path):
  rows = [
    row('student', 1, 1.0),
    row('student', 2, 2.0, samples=50),
    row('student', 4, 3.0, seed=1),
    row('student', 8, 4.0, network='inception', hash='ab'),
    row('student', 1, 5.0, guidance=2.0),
    row('student', 1, 6.0, ema='early'),
  ]
  stages = [runs.Stage('', 'run', rows)]
  table = tabulate(rows_of(stages), 1000, [])
  names = [column.name for column in table.columns]
  assert names.count('frechet_digits') == 4
  for line, value in zip(table.lines, '123456', strict=True):
    cells = line[len(table.drawn) :]
    shown = [
      cell.text
      for cell, column in zip(cells, table.columns, strict=True)
      if column.name == 'frechet_digits' and cell.text
    ]
    assert shown == [f'{value}.00']
  assert (
    table.columns[0].about == 'samples = 600, seed = 0, network = –, hash = –'
  )
  assert {'NFE', 'Guidance', 'EMA'} <= set(table.drawn)


def test_a_spread_stands_beside_its_figure():
  rows = [row('a', 1, 1.5, frechet_digits_spread=0.25, kid=1.0, kid_error=0.5)]
  text = show(rows).text
  assert '1.50 ± 0.25' in text and '± 0.5\n' in f'{text}\n'
  assert 'spread' not in text and 'error' not in text


def test_a_line_of_a_chart_is_one_way_of_drawing(tmp_path):
  rows = [row('student', n, n, guidance=g) for g in (1.0, 2.0) for n in (1, 2)]
  rows += [row('student', n, 99.0, step=1) for n in (1, 2, 4)]
  rows += [row('student', 1, float('nan'), guidance=3.0)]
  stage = runs.Stage(
    '', 'run', [*rows, {'model': 'student', 'step': 2, 'nfe': 1}]
  )
  (chart, _) = page.over_nfe([stage])
  assert [(line.name, len(line.marks)) for line in chart.lines] == [
    ('student, flow map, Guidance 1', 2),
    ('student, flow map, Guidance 2', 2),
  ]
  assert [tick.text for tick in chart.x_ticks] == ['1', '2']


def test_the_spread_of_a_figure_is_its_error_bar():
  rows = [row('student', n, n, frechet_digits_spread=n / 4) for n in (1, 2)]
  (chart, _) = page.over_nfe([runs.Stage('', 'run', rows)])
  marks = chart.lines[0].marks
  assert 0 < marks[0].low - marks[0].high < marks[1].low - marks[1].high
  assert marks[0].text == 'student, flow map: 1 ± 0.25 at 1'


def test_precision_and_recall_are_in_one_chart():
  """Recall is dashed, in the colour of its line; the axis is linear."""
  rows = [
    {
      **row(model, n, n, precision_digits=0.9 - k / 10, recall_digits=n / 20),
      'recall_digits_spread': 0.05,
    }
    for k, model in enumerate(('teacher', 'student'))
    for n in (1, 2, 4)
  ]
  charts = page.over_nfe([runs.Stage('', 'run', rows)])
  (chart,) = (c for c in charts if c.title.endswith('recall (digits)'))
  assert chart.title == 'Precision and recall (digits)'
  assert chart.about == 'Precision is solid, recall dashed'
  assert [(line.name, line.dashed) for line in chart.lines] == [
    *(('teacher, flow map', False), ('student, flow map', False)),
    *(('teacher, flow map', True), ('student, flow map', True)),
  ]
  assert [line.style for line in chart.lines] == [0, 1, 0, 1]
  assert [line.name for line in chart.legend] == [
    *('teacher, flow map', 'student, flow map'),
  ]
  mark = chart.lines[2].marks[1]
  assert mark.text == 'teacher, flow map, recall: 0.1 ± 0.05 at 2'
  assert not [c.title for c in charts if c.title.startswith('Recall')]
  ticks = [float(tick.text) for tick in chart.y_ticks]
  assert np.ptp(np.diff(ticks)) < 1e-9


def test_precision_of_one_network_and_recall_of_another_are_apart():
  rows = [
    {**row('student', n, n), 'samples': k, f'{name}_digits': n / 9}
    for n in (1, 2)
    for k, name in ((600, 'precision'), (50, 'recall'))
  ]
  charts = page.over_nfe([runs.Stage('', 'run', rows)])
  assert {'Precision (digits)', 'Recall (digits)'} <= {c.title for c in charts}


def test_a_marked_line_is_in_the_chart_of_the_others():
  rows = [row('teacher', n, 8 / n) for n in (1, 2)]
  rows += [row('student', n, n, trained_on='vgg16') for n in (1, 2)]
  (chart, _) = page.over_nfe([runs.Stage('', 'run', rows)])
  assert [line.name for line in chart.lines] == [
    *('teacher, flow map', 'student, flow map †'),
  ]
  assert chart.about == '† its feature network was in a training loss'
  found = show(rows)
  assert '† The feature network' in found.text
  titles = [a.get('title', '') for a in found.named('td')]
  assert sum('vgg16' in title for title in titles) == 4


def test_a_bias_is_a_title_and_no_chart():
  rows = [row('student', n, n, frechet_digits_bias=n / 4) for n in (1, 2)]
  found = show(rows)
  titles = [a['title'] for a in found.named('td') if 'title' in a]
  assert titles[0] == '0.25 of it is due to the number of samples'
  assert '0.25 to 0.5 of Fréchet distance (digits) is due to' in found.text
  charts = page.over_nfe([runs.Stage('', 'run', rows)])
  assert not [c.title for c in charts if 'bias' in c.title]


@pytest.mark.parametrize(
  'bad', ['nan', 'inf', '-inf', None, True, [1], {'a': 1}]
)
def test_odd_values_are_shown(bad):
  rows = [row('student', 1, 1.0, odd=bad), row('student', bad, 2.0)]
  assert len(show(rows).named('tr')) == 3


@pytest.mark.parametrize('room', [60_000, 200_000])
def test_pictures_are_thinned_until_the_page_is_small(
  tmp_path, monkeypatch, room
):
  monkeypatch.setattr(page, 'LARGEST', room + 30_000)
  monkeypatch.setattr(page, 'PICTURES', room)
  workdir = make_run(tmp_path / 'run')
  for step in range(3, 9):
    draw(workdir / 'distil' / 'evaluations' / f'{step:08d}', step, size=32)
  found = read(workdir)
  assert (workdir / PAGE).stat().st_size <= room + 30_000
  said = re.search(r'(\d+) of (\d+) pictures are shown', found.text)
  assert said and int(said[2]) == 32
  shown = [a for a in found.named('img') if 'data-at' in a]
  assert len(shown) == int(said[1]) > 0
  steps = {at['step'] for a in shown for at in json.loads(a['data-at'])}
  assert max(steps) == 8


def test_a_page_of_many_rows_and_names_is_small(tmp_path, monkeypatch):
  monkeypatch.setattr(page, 'LARGEST', 500_000)
  wide = {f'figure_{k}': k / 7 for k in range(50)}
  rows = [row('student', 1, k, step=k, **wide) for k in range(700)]
  found = read(make_run(tmp_path / 'run', rows=rows))
  assert (tmp_path / 'run' / PAGE).stat().st_size <= 500_000
  assert re.search(r'The newest \d+ of 700 rows are shown', found.text)


def test_pictures_of_different_seeds_are_in_different_panels(tmp_path):
  workdir = make_run(tmp_path / 'run', images=False)
  for seed in (0, 1):
    entry = SweepEntry('student', 'gamma', 2, {'gamma': 0.3, 'grid': 'cosine'})
    write_sheet(workdir / 'distil', entry, np.zeros((3, 4, 4, 1)), seed=seed)
  text = read(workdir).text
  for seed in (0, 1):
    assert f'student, gamma, grid=cosine, NFE 2, γ 0.3 · seed {seed}' in text


def test_pictures_of_other_weights_are_in_their_own_panels(tmp_path):
  workdir = make_run(tmp_path / 'run', images=False)
  for folder in ('', 'early'):
    draw(workdir / 'distil' / 'evaluations' / '00000001' / folder, 0)
  text = read(workdir).text
  for way in ('student, euler,', 'student, euler, weights early,'):
    assert f'{way} guidance 1.5' in text


def test_equal_pictures_are_in_the_page_once(tmp_path):
  """A frozen teacher draws the same at every checkpoint."""
  workdir = make_run(tmp_path / 'run', images=False)
  for step in (1, 2):
    draw(workdir / 'distil' / 'evaluations' / f'{step:08d}', 0)
  shots = [a for a in read(workdir).named('img') if 'data-at' in a]
  assert len(shots) == 4
  assert [at['step'] for at in json.loads(shots[0]['data-at'])] == [1, 2]


def test_damaged_files_are_said_and_the_rest_is_shown(tmp_path):
  workdir = make_run(tmp_path / 'run')
  stage = workdir / 'distil'
  (stage / 'evaluations' / 'results.json').write_text('[{]')
  with (stage / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 9, "los\n[]\n{"step": "x"}\n')
  sheet = next((stage / 'sheets').iterdir())
  sheet.write_bytes(sheet.read_bytes()[:200])
  Image.new('L', (3, 3)).save(stage / 'sheets' / 'silent.png')
  later = stage / 'evaluations' / '00000009'
  later.mkdir()
  (later / 'results.json').write_text('[{"model": "a", "step": null}]')
  found = read(workdir)
  for said in (
    'is not JSON',
    "has a 'step' that is no number",
    '3 damaged lines are left out',
    'silent.png does not say how it was drawn',
    f'{sheet.name} ',
  ):
    assert said in found.text
  assert len(found.named('tr')) == 1 + len(ROWS)


def test_a_run_without_any_measurement_has_a_page(tmp_path):
  workdir = make_run(tmp_path / 'run', rows=[], images=False)
  (workdir / 'distil' / 'metrics.jsonl').unlink()
  assert 'Nothing has been measured yet' in read(workdir).text


def test_a_failure_is_one_line(tmp_path, capsys):
  refresh(tmp_path / 'nothing')
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(f'{tmp_path}/nothing/report.html was not written: ')
  with forgiving(tmp_path):
    raise MemoryError
  assert capsys.readouterr().out == f'{tmp_path} was not written: MemoryError\n'


def test_runs_side_by_side(tmp_path):
  a, b = (make_run(tmp_path / name / 'run') for name in 'ab')
  path = report.run([str(a), str(b)], report.Options(out=f'{tmp_path}/x.html'))
  found = Elements(path.read_text())
  assert_no_request(found)
  assert found.text.count('Runs side by side') == 1
  assert 'a/run' in found.text and 'b/run' in found.text
  assert len(found.named('tr')) == 1 + 2 * len(ROWS)
  assert 'a/run · distil · student, euler, guidance 1.5' in found.text


def test_what_the_job_refuses(tmp_path):
  run = make_run(tmp_path / 'run')
  plain = report.Options()
  for folders, options, why in [
    ([], plain, 'must be given the folders'),
    ([run, f'{run}/../run'], plain, 'must be named once'),
    ([run, tmp_path], plain, 'must be the folder of a run'),
    ([tmp_path / 'no'], plain, 'no must be the folder of a run: there is no'),
    ([run], report.Options(out=str(tmp_path)), 'must be a file'),
    ([run], report.Options(out=f'{tmp_path}/no/x.html'), 'must be a file'),
  ]:
    with pytest.raises(ConfigError, match=why):
      report.run([*map(str, folders)], options)


def test_the_page_of_one_run_is_in_its_folder(tmp_path):
  run = make_run(tmp_path / 'run')
  assert report.run([str(run)], report.Options()) == run / PAGE


def test_a_page_replaces_a_link_and_leaves_no_file(tmp_path):
  run = make_run(tmp_path / 'run')
  (tmp_path / 'other').write_text('kept')
  (run / PAGE).symlink_to(tmp_path / 'other')
  write_page(run / PAGE, [run])
  assert (tmp_path / 'other').read_text() == 'kept'
  assert not list(run.glob('.*.tmp'))
