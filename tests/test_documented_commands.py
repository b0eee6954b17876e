"""Every command of the documents is run at toy size, or it is said why not."""

import ast
import collections
import pathlib
import tomllib

import documented
import numpy as np
import PIL.Image
import pytest
from absl import flags, logging
from absl.testing import flagsaver
from documented import MAIN, ROOT, Command
from jobs.conftest import compiled_once  # noqa: F401

from flowdistill import main
from flowdistill.build.sampling_plan import combinations, plan_sampling
from flowdistill.config.overrides import parse_override
from flowdistill.config.sampling import Sampling, Samplings
from flowdistill.flow.spec import Condition, DataSpec
from flowdistill.jobs import JOBS
from flowdistill.stages.job_options import parse_options
from flowdistill.stages.kinds import load_stages
from flowdistill.training.roles import AVERAGE, VELOCITY
from launch import test_documents as launched

TABLE = tomllib.loads(
  (ROOT / 'tests' / 'documented_commands.toml').read_text('utf-8')
)
RUN, ELSEWHERE, NOT_RUN = (TABLE[k] for k in ('run', 'elsewhere', 'not_run'))
ROWS = [*ELSEWHERE, *NOT_RUN, *(row for story in RUN.values() for row in story)]
SPEC = DataSpec.labelled((8, 8, 1), 10)
# What a fragment of Python in a document does not define itself.
NAMES = {
  'np': np,
  'x0': np.zeros((6, 8, 8, 1), np.float32),
  'label': np.arange(6),
  'DataSpec': DataSpec,
  'Condition': Condition,
}


def rows_of(command):
  """The rows that stand for a command."""
  return [row for row in ROWS if f'{command.words} '.startswith(f'{row} ')]


def unlisted(commands):
  """What is wrong with the rows of commands, each with its file and text."""
  found = ((c, rows_of(c)) for c in commands)
  return [(c.file, c.words, rows) for c, rows in found if len(rows) != 1]


def of_the_package(command):
  """Whether it starts the package, with a config that exists."""
  starts = command.shell and MAIN in command.before + command.text
  return starts and 'moons_halved_jumps' not in command.text


WHOLE, PARTS = (
  {
    f'{command.file}: {" ".join(words)}': words
    for command in commands
    if of_the_package(command)
    for words in documented.calls(command)
  }
  for commands in (documented.commands(), documented.inline())
)


def test_every_command_has_one_row():
  assert unlisted(documented.commands()) == []


def test_every_row_has_a_command():
  used = {row for c in documented.commands() for row in rows_of(c)}
  assert [row for row in ROWS if row not in used] == []
  twice = [row for row, n in collections.Counter(ROWS).items() if n > 1]
  assert twice == []


def test_every_file_is_read():
  files = collections.Counter(c.file for c in documented.commands())
  assert files['README.md'] > 10
  assert files['launch/README.md'] > 5
  assert files['docs/slimflow/sizes.md'] == 5
  with_one = {f for f in files if f.startswith('configs/')}
  configs = {
    documented.named(path)
    for path in (ROOT / 'configs').rglob('*.py')
    if 'def get_config(' in path.read_text('utf-8')
  }
  assert with_one == configs


@pytest.mark.parametrize('test', sorted(set(ELSEWHERE.values())))
def test_what_runs_it_elsewhere_exists(test):
  file, name = test.split('::')
  tree = ast.parse((ROOT / file).read_text('utf-8'))
  assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_every_line_that_starts_a_script_is_tried_elsewhere():
  found = {c.words for c in documented.commands() if c.words[:7] == 'launch/'}
  assert found == {' '.join(line.split()) for line in launched.commands()}


@pytest.mark.parametrize('row', NOT_RUN)
def test_what_is_not_run_has_a_reason_in_whole_sentences(row):
  reason = NOT_RUN[row]
  assert reason[0].isupper()
  assert reason.endswith('.')
  for word in reason.split():
    if word.startswith('tests/'):
      assert (ROOT / word.rstrip(';.')).exists()


@pytest.mark.parametrize('text', WHOLE)
def test_its_options_exist_and_its_config_resolves(text, monkeypatch):
  monkeypatch.chdir(ROOT)
  check(WHOLE[text])


@pytest.mark.parametrize('text', PARTS)
def test_options_in_the_text_exist(text, monkeypatch):
  monkeypatch.chdir(ROOT)
  check(PARTS[text], whole=False)


def test_what_is_wrong_in_a_document_is_found(monkeypatch):
  monkeypatch.chdir(ROOT)
  block = f'```bash\n{MAIN} --config x.py \\\n  --new=1  # a note\n```'
  (new,) = documented.in_markdown('A.md', block)
  assert unlisted([new]) == [
    ('A.md', f'{MAIN} --config x.py --new=1 # a note', [])
  ]
  assert documented.calls(new) == [['--config', 'x.py', '--new=1']]
  with pytest.raises(ValueError, match=r'A\.md: a block of .* has commands'):
    documented.in_markdown('A.md', block.replace('bash', ''))
  with pytest.raises(ValueError, match=r'A\.md: this is no command of bash'):
    documented.in_markdown('A.md', '```bash\necho "\n```')
  wrong = {
    '--workdir W --job=evaluate --sampelr=euler': "mean 'sampler'",
    '--workdir W --job=evaluate --sampler=eulr': "mean 'euler'",
    '--workdir W --job=evaluate --options=gamma=1': 'takes no',
    '--workdir W --job=generate --nfe=two': 'nfe=two must be',
    '--workdir runs/quickstart --job=generate --stage=distill': 'distill',
    '--workdir runs/quickstart --job=generate --model=techer': 'techer',
    '--workdir W --job=trian': 'trian',
    '--config configs/toys.py --workdir W --config.trian.steps=1': "'train'",
    '--config configs/toys.py:moon --workdir W': "mean 'moons'",
    '--config configs/toy.py --workdir W': 'no file',
    '--config configs/toys.py': 'workdir is missing',
    '--workdir W --config.seed=1': 'without config',
  }
  for words, why in wrong.items():
    with pytest.raises((ValueError, AssertionError), match=why):
      check(words.split())


def check(words, *, whole=True):
  """Parses and resolves what can be known without data and networks.

  What is not the whole command may lack a workdir, or be the name of a job.
  """
  ours, rest, folders = main.split_arguments(words)
  given = dict(word.removeprefix('--').split('=', 1) for word in ours)
  job, workdir = given.get('job', 'train'), given.get('workdir', '')
  assert job in JOBS, job
  assert not folders or job in main.OF_RUNS, f'{folders} belongs to no option'
  config = given.get('config', '')
  overrides = [parse_override(n, v) for n, v in rest if n.startswith('config.')]
  mine = [(n, v) for n, v in rest if not n.startswith('config.')]
  if not whole and given.keys() == {'job'} and not mine:
    return
  options = parse_options(JOBS, job, mine)
  alone = folders or job == 'index' or getattr(options, 'of', '')
  needed = whole and not (job in main.SHAPES and config) and not alone
  assert workdir or not needed, 'workdir is missing'
  assert config or not overrides, f'{overrides} without config'
  source = config or config_of(workdir)
  specs = load_stages(source, overrides) if source else {}
  stage = getattr(options, 'stage', '')
  assert not specs or stage in ('', 'NAME', *specs), stage
  roles = vars(options).get('model') or ()
  for role in [roles] if isinstance(roles, str) else roles:
    check_model(role, specs.get(stage) or [{}, *specs.values()][-1])
  ways = [options] if isinstance(options, Sampling) else []
  if isinstance(options, Samplings):
    ways = combinations(options)
  scalars = () if roles in ('teacher', ('teacher',)) else ('guidance',)
  frozen = (specs.get(stage) or {}).get('frozen', {})

  def guides():
    return dict.fromkeys(frozen, VELOCITY)

  for way in ways:
    plan_sampling(
      way.sampler,
      way.nfe,
      way.how(),
      spec=SPEC,
      scalars=scalars,
      answers=AVERAGE if scalars else VELOCITY,
      guides=guides,
    )


def check_model(role, spec):
  known = ('student', *spec.get('frozen', ()), *spec.get('roles', ()))
  assert not spec or role in known, role


def config_of(workdir):
  """The config by which the documents train a run; '' if none does."""
  for words in WHOLE.values():
    ours, _, _ = main.split_arguments(words)
    given = dict(word.removeprefix('--').split('=', 1) for word in ours)
    if workdir and given.get('workdir') == workdir and 'config' in given:
      return given['config']
  return ''


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A folder with the configs, and pictures in two classes."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('configs').symlink_to(ROOT / 'configs')
  rng = np.random.default_rng(0)
  for folder in ('PICTURES', 'img_align_celeba'):
    for k in range(20):
      path = pathlib.Path(folder, 'ab'[k % 2], f'{k}.png')
      path.parent.mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(path)


@pytest.fixture
def verbosity():
  """That of the log, which `main` sets, is as before."""
  before = logging.get_verbosity()
  yield
  logging.set_verbosity(before)


@pytest.mark.slow
@pytest.mark.usefixtures('here', 'verbosity')
@pytest.mark.parametrize('story', RUN)
def test_it_runs_at_toy_size(story):
  for row, toy in RUN[story].items():
    found = [c for c in documented.commands() if row in rows_of(c)]
    for command in {c.words: c for c in found}.values():
      run(command, toy)


def run(command: Command, toy: str) -> None:
  """Runs it here, and what it calls of the package in this process."""
  if not command.shell:
    exec(command.text, dict(NAMES))
    return
  for words in documented.calls(command, execute=True):
    small = [*at_toy_size(words, toy)]
    ours, rest, folders = main.split_arguments(small)
    before = flagsaver.save_flag_values(flags.FLAGS)
    try:
      flags.FLAGS(['flowdistill', *ours])
      main.main(rest, folders)
    finally:
      flagsaver.restore_flag_values(before)


def at_toy_size(words, toy):
  """The arguments, with those of a row of [run]."""
  added = toy.split()
  if added[:1] == ['runlocal']:
    at, mark = words.index('--config') + 1, added.pop(0)
    config = words[at]
    if added and '>' in added[0]:
      whole, part = added.pop(0).split('>')
      config = config.removesuffix(f':{whole}') + f':{part}'
    config += (',' if '.py:' in config else ':') + mark
    words = [*words[:at], config, *words[at + 1 :]]
  return [*words, *added]


def test_what_makes_it_small_is_only_added():
  words = ['--config', 'c.py:a', '--job=plan']
  assert at_toy_size(words, 'runlocal --x=1') == [
    *('--config', 'c.py:a,runlocal', '--job=plan', '--x=1'),
  ]
  assert at_toy_size(words, 'runlocal a>b --x=1') == [
    *('--config', 'c.py:b,runlocal', '--job=plan', '--x=1'),
  ]
  assert at_toy_size(words, '') == words
