"""docs/figures.toml is the one source of the figures of README and configs."""

import ast
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCE = tomllib.loads((ROOT / 'docs/figures.toml').read_text('utf-8'))
IN_README = [config for config, entry in SOURCE.items() if entry['readme']]
SECTIONS = (ROOT / 'README.md').read_text('utf-8').split('\n## ')
LAUNCH = (ROOT / 'launch/README.md').read_text('utf-8')
CONFIGS = {
  path.relative_to(ROOT).as_posix(): ast.get_docstring(
    ast.parse(path.read_text('utf-8'))
  )
  for path in sorted((ROOT / 'configs').rglob('*.py'))
  if 'def get_config(' in path.read_text('utf-8')
}
DECIMAL = re.compile(r'(?<![\w.-])-?\d+\.\d+(?![\w.]*\w)')
DURATION = re.compile(
  r'\d+ min\b(?: \d+ s\b)?|(?:about )?\w+ (?:minutes|hours)'
)


def words(text):
  """The text on one line; a command that is continued too."""
  return ' '.join(text.replace('\\\n', ' ').split())


def decimals(text, entry):
  """Those of a text but for the clock rate of the machine, and versions."""
  for name in ('machine', 'versions'):
    text = text.replace(entry.get(name, '\0'), '')
  return set(DECIMAL.findall(text))


def figures(entry, *tables):
  """Every figure in these tables of an entry."""
  values = [value for t in tables for value in entry.get(t, {}).values()]
  return {x for v in values for x in ([v] if isinstance(v, str) else v)}


def section(config):
  """The section of README that has the command of a config."""
  (found,) = [s for s in SECTIONS if SOURCE[config]['command'] in words(s)]
  return found


@pytest.mark.parametrize('config', SOURCE)
def test_a_docstring_quotes_the_figures_and_no_others(config):
  entry, text = SOURCE[config], words(CONFIGS[config])
  wanted = [entry['command'], entry.get('machine', '')]
  assert [x for x in wanted if x not in text] == []
  assert decimals(text, entry) == figures(entry, 'figures')
  assert DURATION.findall(text) == ([entry['time']] if 'time' in entry else [])


def test_a_config_without_figures_says_that_it_is_not_measured():
  assert SOURCE.keys() <= CONFIGS.keys()
  bare = {c: words(text) for c, text in CONFIGS.items() if c not in SOURCE}
  assert [c for c, text in bare.items() if 'not yet measured' not in text] == []
  assert [c for c, text in bare.items() if DURATION.search(text)] == []


@pytest.mark.parametrize('config', IN_README)
def test_the_readme_quotes_the_figures_and_no_other_medians(config):
  entry, text = SOURCE[config], section(config)
  known = figures(entry, 'figures', 'readme_figures')
  assert known - decimals(words(text), entry) == set()
  assert entry.get('versions', '') in words(text)
  for paragraph in map(words, re.split(r'\n(?:\n|- )', text)):
    if re.search(r'[Mm]edian', paragraph):
      assert decimals(paragraph, entry) - known == set(), paragraph


def test_the_readmes_have_no_other_durations():
  measured = [config for config in IN_README if 'time' in SOURCE[config]]
  times = {config: SOURCE[config]['time'] for config in measured}
  sections = {config: words(section(config)) for config in IN_README}
  for config, text in sections.items():
    assert DURATION.findall(text) == [*filter(None, [times.get(config)])]
  found = DURATION.findall(words(' '.join(SECTIONS)))
  assert sorted(found) == sorted(times.values())
  rows = [line for line in LAUNCH.splitlines() if DURATION.search(line)]
  assert rows
  for row in rows:
    named = [time for config, time in times.items() if config in row]
    assert DURATION.findall(row) == named
