"""The commands of the documents, and those in the docstrings of configs.

A command is a line of a fenced block of bash, with what continues it: a loop is
one command, `a && b` are two. It is also a fenced block of Python as a whole,
and a command line in a docstring. `calls` asks bash itself which arguments
`python -m flowdistill.main` is given.
"""

import ast
import dataclasses
import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = ('README.md', 'CONTRIBUTING.md', 'launch/README.md')
BLOCK = re.compile(
  r'^( *)```([^\n]*)\n(.*?)^\1``` *$', re.DOTALL | re.MULTILINE
)
SHELLS = ('bash', 'sh', 'shell', 'console')
MAIN = 'python -m flowdistill.main'
VERBS = r'(?:python3?|pip|pytest|bash|docker|\.ci/|launch/)\b'
COMMAND_LINE = re.compile(rf'^\s+({VERBS}(?:.*\\\n)*.*)', re.MULTILINE)
FUNCTION = re.compile(r'\w+\(\) *{')
# In place of python: writes down the arguments of the package, and with $PYTHON
# runs everything else. Nothing else is found without a PATH.
SHIM = r"""
python() {
  if [ "$1 $2" = '-m flowdistill.main' ]; then
    shift 2
    printf '%s\0' "$#" "$@" >> "$CALLS"
  elif [ -n "$PYTHON" ]; then
    "$PYTHON" "$@"
  fi
}
command_not_found_handle() { [ -z "$PYTHON" ]; }
"""


@dataclasses.dataclass(frozen=True)
class Command:
  """A command, and where it stands.

  Attributes:
    file: its path below the root of the repository.
    text: as it stands there, without the backslashes that continue a line.
    before: the functions of bash that its block has defined.
    shell: whether it is of bash; otherwise it is a block of Python.
  """

  file: str
  text: str
  before: str = ''
  shell: bool = True

  @property
  def words(self) -> str:
    """The text on one line."""
    return ' '.join(self.text.split())


def documents() -> list[pathlib.Path]:
  """README.md, CONTRIBUTING.md, launch/README.md and docs/."""
  inner = sorted((ROOT / 'docs').rglob('*.md'))
  return [*(ROOT / name for name in DOCUMENTS), *inner]


@functools.cache
def commands() -> tuple[Command, ...]:
  """All of them, in the order of the files."""
  found = [c for path in documents() for c in in_document(named(path), path)]
  for path in sorted((ROOT / 'configs').rglob('*.py')):
    found += in_docstrings(named(path), path.read_text('utf-8'))
  return tuple(found)


def named(path: pathlib.Path) -> str:
  return path.relative_to(ROOT).as_posix()


def in_document(file: str, path: pathlib.Path) -> list[Command]:
  return in_markdown(file, path.read_text('utf-8'))


def in_markdown(file: str, text: str) -> list[Command]:
  """The commands in fenced blocks.

  Raises:
    ValueError: for a block that has a command and is not said to be one.
  """
  found: list[Command] = []
  for indent, language, block in BLOCK.findall(text):
    body = textwrap.dedent(block)
    if language.strip() in SHELLS:
      found += in_shell(file, body)
    elif language.strip() == 'python':
      found.append(Command(file, body, shell=False))
    elif re.search(rf'^{indent}[$ ]*{VERBS}', block, re.MULTILINE):
      raise ValueError(f'{file}: a block of {language!r} has commands: {block}')
  return found


def in_shell(file: str, block: str) -> Iterator[Command]:
  """The commands of a block of bash."""
  before, text = '', ''
  for line in block.replace('\\\n', ' ').splitlines():
    text = f'{text}\n{line}'.strip()
    if not text or text.startswith('#') or not complete(text):
      continue
    if FUNCTION.match(text):
      before += f'{text}\n'
    else:
      parts = text.split(' && ')
      for part in parts if all(map(complete, parts)) else [text]:
        yield Command(file, part.removeprefix('$ '), before)
    text = ''
  if text and not text.startswith('#'):
    raise ValueError(f'{file}: this is no command of bash: {text}')


@functools.cache
def complete(text: str) -> bool:
  """Whether bash could run it as it is."""
  if not re.search(r'["\'`$(){}]|\b(for|while|if|case|do)\b|<<', text):
    return True
  done = subprocess.run(['bash', '-n', '-c', text], capture_output=True)
  return done.returncode == 0


def in_docstrings(file: str, source: str) -> list[Command]:
  """The command lines in the docstrings of a module, all indented."""
  nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
  texts = [
    ast.get_docstring(node) or ''
    for node in ast.walk(ast.parse(source))
    if isinstance(node, nodes)
  ]
  lines = itertools.chain(*(COMMAND_LINE.findall(text) for text in texts))
  return [Command(file, line.replace('\\\n', ' ')) for line in lines]


def inline() -> list[Command]:
  """The spans in the documents that are options of the package."""
  found = []
  for path in documents():
    text = BLOCK.sub('', path.read_text('utf-8'))
    for span in re.findall(r'`([^`]+)`', text):
      words = ' '.join(span.removeprefix(MAIN).split())
      whole = span.startswith(MAIN) and '...' not in words
      if whole or re.match(r'--config configs/|--job=\w+', words):
        found.append(Command(named(path), f'{MAIN} {words}'))
  return found


def calls(command: Command, *, execute: bool = False) -> list[list[str]]:
  """The arguments of each call of the package that a command makes.

  Args:
    command: of bash.
    execute: whether to run, in the working directory, what else it calls.

  Raises:
    subprocess.CalledProcessError: if that fails.
  """
  read, write = os.pipe()
  env = {'PATH': os.devnull, 'PYTHON': '', 'CALLS': f'/dev/fd/{write}'}
  if execute:
    env |= {'PATH': os.environ['PATH'], 'PYTHON': sys.executable}
  with os.fdopen(read, 'rb') as file:
    try:
      subprocess.run(
        ['/bin/bash', '-ec', f'{SHIM}{command.before}{command.text}'],
        env=env,
        check=True,
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
      )
    finally:
      os.close(write)
    words = file.read().decode('utf-8').split('\0')[:-1]
  found = []
  while words:
    count = int(words.pop(0))
    found.append(words[:count])
    del words[:count]
  return found
