"""Every file of the repository that a text in it names exists."""

import ast
import itertools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted(
  itertools.chain(
    ROOT.glob('*.md'), ROOT.glob('docs/**/*.md'), ROOT.glob('launch/*.md')
  )
)
PATH = re.compile(
  r'(?<![\w/.-])(?:tests|flowdistill|configs|docs|launch)/[\w./-]*\.[a-z]\w*'
)
FOLDERS = ('flowdistill', 'configs', 'tests', 'launch')
MODULE = re.compile(r'(?<![\w*])[\w/]*\w\.py\b')
PLACEHOLDERS = ('FILE.py', 'NAME.py', 'setup.py', 'generate_data.py')
SOURCES = (  # files of other projects, by which ours are explained
  'evaluator.py',
  'fid_score.py',
  'fid.py',
  'calculate_metrics.py',
  'compute_valfd.py',
  'prdc.py',
  'persistence.py',
  'reconstruct_phema.py',
)
URL = re.compile(r'https?:\S+')  # its files are those of other projects
LINK = re.compile(r'\]\((?!https?:)([^)#]+)')
# The example that CONTRIBUTING.md adds, and the configs of the originals.
ELSEWHERE = re.compile(
  r'.*halved_jumps\.py|configs/(rectified_flow|openuni_task)/.*'
)


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(document):
  text = document.read_text('utf-8')
  paths = {ROOT / x for x in PATH.findall(text) if not ELSEWHERE.match(x)}
  links = {document.parent / x for x in LINK.findall(text)}
  assert [path for path in paths | links if not path.exists()] == []


def docstrings(module):
  """The docstrings of a module and of what is in it, without addresses."""
  kinds = ast.Module | ast.ClassDef | ast.FunctionDef
  tree = ast.parse(module.read_text('utf-8'))
  nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
  text = ' '.join(filter(None, map(ast.get_docstring, nodes)))
  return URL.sub('', text)


def test_what_docstrings_name_exists():
  modules = [
    path for folder in FOLDERS for path in sorted((ROOT / folder).rglob('*.py'))
  ]
  names = {path.name for path in modules}
  texts = {path: docstrings(path) for path in modules}
  assert len(PATH.findall(' '.join(texts.values()))) > 20
  missing = [
    f'{module.relative_to(ROOT)}: {name}'
    for module, text in texts.items()
    for name in MODULE.findall(text)
    if pathlib.PurePath(name).name not in {*names, *PLACEHOLDERS, *SOURCES}
  ]
  missing += [
    f'{module.relative_to(ROOT)}: {path}'
    for module, text in texts.items()
    for path in PATH.findall(text)
    if not (ROOT / path).exists()
  ]
  assert missing == []


def test_there_are_paths_to_look_for():
  texts = [document.read_text('utf-8') for document in DOCUMENTS]
  assert len(DOCUMENTS) >= 6
  assert sum(len(PATH.findall(text)) for text in texts) > 50
