"""Every file of the repository that a document names exists."""

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
LINK = re.compile(r'\]\((?!https?:)([^)#]+)')
# The example that CONTRIBUTING.md adds, and the configs of SlimFlow's own code.
ELSEWHERE = re.compile(r'.*halved_jumps\.py|configs/rectified_flow/.*')


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(document):
  text = document.read_text('utf-8')
  paths = {ROOT / x for x in PATH.findall(text) if not ELSEWHERE.match(x)}
  links = {document.parent / x for x in LINK.findall(text)}
  assert [path for path in paths | links if not path.exists()] == []


def test_there_are_paths_to_look_for():
  texts = [document.read_text('utf-8') for document in DOCUMENTS]
  assert len(DOCUMENTS) >= 6
  assert sum(len(PATH.findall(text)) for text in texts) > 50
