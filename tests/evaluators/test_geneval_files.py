"""The files of GenEval's own code."""

import json

import documented
import pytest

from flowdistill.evaluators.geneval_files import read_prompts, summarise_results
from flowdistill.metrics.geneval import Clause, Prompt

LINE = {
  'tag': 'counting',
  'include': [{'class': 'bus', 'count': 3}],
  'exclude': [{'class': 'bus', 'count': 4}],
  'prompt': 'a photo of three buses',
}


def written(path, *lines):
  text = (x if isinstance(x, str) else json.dumps(x) for x in lines)
  path.write_text('\n'.join(text) + '\n')
  return path


def result(tag, correct, prompt='a'):
  """As a line of results.jsonl, in which pandas escapes slashes."""
  return json.dumps(
    {
      'filename': 'out/00000/samples/0000.png',
      'tag': tag,
      'prompt': prompt,
      'correct': correct,
      'reason': '' if correct else 'expected a>=1, found 0',
      'metadata': json.dumps({'tag': tag, 'prompt': prompt}),
      'details': '{}',
    }
  ).replace('/', '\\/')


def test_the_lines_of_the_documentation(tmp_path, monkeypatch):
  (text,) = (
    command.text
    for command in documented.commands()
    if 'geneval_files' in command.text
  )
  written(tmp_path / 'evaluation_metadata.jsonl', LINE)
  written(tmp_path / 'results.jsonl', result('counting', True))
  monkeypatch.chdir(tmp_path)
  names = {}
  exec(text, names)
  assert names['texts'] == ['a photo of three buses']
  assert names['row']['geneval'] == 1


def test_prompts_are_read(tmp_path):
  path = written(tmp_path / 'evaluation_metadata.jsonl', LINE, '', LINE)
  (prompt, again) = read_prompts(path)
  assert (
    prompt
    == again
    == Prompt(
      'counting',
      'a photo of three buses',
      (Clause('bus', 3),),
      (Clause('bus', 4),),
    )
  )


def test_results_are_summarised_as_the_original_does(tmp_path):
  """Two of four images of counting, one of one of colours: (½ + 1) / 2."""
  lines = [
    result('counting', True, 'a'),
    result('counting', False, 'a'),
    result('colors', True, 'c'),
    result('counting', False, 'b'),
    result('counting', False, 'b'),
  ]
  assert summarise_results(written(tmp_path / 'results.jsonl', *lines)) == {
    'images': 5,
    'prompts': 3,
    'correct_images': pytest.approx(2 / 5),
    'correct_prompts': pytest.approx(2 / 3),
    'geneval': pytest.approx((1 / 4 + 1) / 2),
    'geneval_counting': 1 / 4,
    'geneval_colors': 1,
  }


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"tag": ', r'bad.jsonl, line 2 is cut at'),
    ('[1]', r'bad.jsonl, line 2 must be an object, and is a list'),
    ({**LINE, 'tag': 3}, r'bad.jsonl, line 2: tag = 3 must be a text'),
    ({'prompt': 'a'}, r"bad.jsonl, line 2: it has no 'include'"),
  ],
)
def test_bad_prompts_are_named(tmp_path, line, message):
  with pytest.raises(ValueError, match=message):
    read_prompts(written(tmp_path / 'bad.jsonl', LINE, line))


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    (LINE, "bad.jsonl, line 2: it has no 'correct'; it must be a line of"),
    (
      result('counting', 1),
      'bad.jsonl, line 2: correct = 1 must be true or false',
    ),
    ('{', 'bad.jsonl, line 2 is cut'),
  ],
)
def test_bad_results_are_named(tmp_path, line, message):
  path = written(tmp_path / 'bad.jsonl', result('counting', True), line)
  with pytest.raises(ValueError, match=message):
    summarise_results(path)


def test_files_that_are_not_there_or_empty(tmp_path):
  for read in (read_prompts, summarise_results):
    with pytest.raises(ValueError, match='none.jsonl cannot be read: No such'):
      read(tmp_path / 'none.jsonl')
    with pytest.raises(ValueError, match='empty.jsonl is empty'):
      read(written(tmp_path / 'empty.jsonl', ''))
