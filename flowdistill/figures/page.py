"""report.html: one file to look at a run, without any request to a network.

It is made from what lies in the folders of the runs, so that it can be made
again at any time: the table of figures, charts over NFE and over the steps, and
samples of the same seeds side by side.
"""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import struct
import time
import zlib
from collections.abc import Generator, Iterator, Sequence

import jax
import jinja2
from markupsafe import Markup

from flowdistill.config.stage_specs import ONE_STAGE
from flowdistill.figures.axes import drawable
from flowdistill.figures.charts import Chart, Series, draw
from flowdistill.figures.lines import rows_of
from flowdistill.figures.losses import LOSS
from flowdistill.figures.over_nfe import over_nfe
from flowdistill.figures.panels import Viewer, viewers
from flowdistill.figures.runs import Stage, names_of, read_run
from flowdistill.figures.tabulated import Table, tabulate
from flowdistill.files.atomic import write_atomically
from flowdistill.workdir.results import say

PAGE = 'report.html'
LARGEST = 20_000_000  # bytes of a page
PICTURES, CELLS = 18_000_000, 20_000  # bytes, and cells of tables, at most
SHARES = (1, 0.7, 0.4, 0.1, 0.01)  # of both, tried in turn
UNWRITTEN = (  # what a page may fail with
  OSError,
  ValueError,
  TypeError,
  LookupError,
  AttributeError,
  ArithmeticError,
  RuntimeError,
  MemoryError,
  EOFError,
  SyntaxError,
  struct.error,
  zlib.error,
  jinja2.TemplateError,
)


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page: of one stage, or of several runs side by side."""

  title: str
  table: Table
  charts: Sequence[Chart]
  sheets: Viewer
  others: Viewer
  losses: Sequence[Chart]
  metrics: Sequence[Chart]
  notes: Sequence[str]


def refresh(workdir: pathlib.Path) -> None:
  """Writes W/report.html on the first host; a failure is one line, no error."""
  if jax.process_index() == 0:
    with forgiving(workdir / PAGE):
      write_page(workdir / PAGE, [workdir])


@contextlib.contextmanager
def forgiving(path: pathlib.Path) -> Generator[None]:
  """While a file is written that training can do without: errors are a line."""
  try:
    yield
  except UNWRITTEN as error:
    why = ' '.join(f'{error}'.split()) or type(error).__name__
    say(f'{path} was not written: {why}')


def write_page(path: pathlib.Path, workdirs: Sequence[pathlib.Path]) -> None:
  """Writes a page of one run, or of several side by side.

  Raises:
    ConfigError: if one of them is not the folder of a run.
    OSError: if the file cannot be written.
  """
  names = names_of(workdirs)
  several = len(workdirs) > 1
  stages = [
    stage
    for workdir, name in zip(workdirs, names, strict=True)
    for stage in read_run(workdir, name if several else '')
  ]
  write_atomically(path, page(names, stages).encode(errors='replace'))


def page(names: Sequence[str], stages: Sequence[Stage]) -> str:
  """The page of runs, of at most 20 MB.

  Args:
    names: of the runs.
    stages: of all runs; a section each, the last one first, or one section if
      there are several runs.

  Raises:
    ValueError: if it cannot be so small.
  """
  groups = [list(stages)] if len(names) > 1 else [[s] for s in stages[::-1]]
  for share in SHARES:
    each = share / max(1, len(groups))
    text = render(names, [section(group, each) for group in groups])
    if len(text.encode(errors='replace')) <= LARGEST:
      return text
  raise ValueError(f'it would be larger than {LARGEST} bytes')


def section(stages: Sequence[Stage], share: float) -> Section:
  """The section of stages, with a share of PICTURES and CELLS."""
  notes = [f'{_prefix(s, stages)}{note}' for s in stages for note in s.notes]
  sheets, others = viewers(stages, int(share * PICTURES), notes)
  names = dict.fromkeys(stage.name for stage in stages)
  drawn = [each for name in names for each in over_steps(stages, name)]
  several = len(stages) > 1
  title = 'Runs side by side' if several else f'Stage {next(iter(names))}'
  return Section(
    title='' if title == f'Stage {ONE_STAGE}' else title,
    table=tabulate(rows_of(stages), int(share * CELLS), notes),
    charts=over_nfe(stages),
    sheets=sheets,
    others=others,
    losses=[chart for metric, chart in drawn if metric == LOSS],
    metrics=[chart for metric, chart in drawn if metric != LOSS],
    notes=list(dict.fromkeys(notes)),
  )


def over_steps(
  stages: Sequence[Stage], name: str
) -> Iterator[tuple[str, Chart]]:
  """Metrics of the stages of one name and their charts, a line for each run."""
  lines: dict[str, list[Series]] = {}
  means: dict[str, int] = {}
  styles = {
    run: k for k, run in enumerate(dict.fromkeys(s.run for s in stages))
  }
  for stage in stages:
    for curve in stage.curves if stage.name == name else ():
      if points := [p for p in curve.points if drawable(p[1])]:
        line = Series(stage.run, points, styles[stage.run])
        lines.setdefault(curve.name, []).append(line)
        means[curve.name] = max(curve.mean_of, means.get(curve.name, 1))
  several = len({stage.name for stage in stages}) > 1
  for metric, each in lines.items():
    title = metric.replace('_', ' ') + (f' of {name}' if several else '')
    about = _means(means[metric])
    yield metric, draw(title, each, about=about, x_title='step', marked=False)


def _means(count: int) -> str:
  return f'Means of {count} logged values' if count > 1 else ''


def _prefix(stage: Stage, stages: Sequence[Stage]) -> str:
  words = [stage.run, stage.name] if len(stages) > 1 else []
  return ': '.join([*filter(None, words), ''])


def render(names: Sequence[str], sections: Sequence[Section]) -> str:
  """The HTML text; all names in it are escaped."""
  style, script = _part('page.css'), _part('page.js')
  return (
    _environment()
    .get_template('page.html')
    .render(
      names=names,
      sections=sections,
      style=Markup(style),
      script=Markup(script),
      style_hash=_hash(style),
      script_hash=_hash(script),
      written=time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
    )
  )


@functools.cache
def _environment() -> jinja2.Environment:
  return jinja2.Environment(
    loader=jinja2.PackageLoader('flowdistill.figures'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )


def _part(name: str) -> str:
  """A file of ours that stands in the page as it is."""
  folder = pathlib.Path(__file__).with_name('templates')
  return (folder / name).read_text('utf-8')


def _hash(text: str) -> str:
  """By which the page's policy allows a style or a script of this text."""
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
