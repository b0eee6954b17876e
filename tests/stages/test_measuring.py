"""What evaluators measure of a stage, and what is left if one fails."""

from types import SimpleNamespace

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.stages import measuring
from flowdistill.stages.failure import Unmeasured


def rows_of(*models, error=None):
  """An evaluator with a row for each model, which then fails."""

  def evaluator(*_):
    yield from ({'model': model} for model in models)
    if error is not None:
      raise error

  return evaluator


@pytest.fixture
def measure(monkeypatch, tmp_path):
  """The rows of evaluators, of a stage without networks."""
  monkeypatch.setattr(measuring, 'sampled', lambda *_: {})
  monkeypatch.setattr(measuring, 'of_run', lambda _: {})
  monkeypatch.setattr(measuring, 'of_row', lambda *_: {})
  monkeypatch.setattr(measuring, 'generators', lambda *_: {})
  monkeypatch.setattr(measuring, 'make_gauge', lambda *_: None)

  def run(**evaluators):
    stage = SimpleNamespace(evaluators=evaluators)
    blueprint = SimpleNamespace(stage=stage, measured=None)
    assembly = SimpleNamespace(blueprint=blueprint)
    state = SimpleNamespace(step=4)
    return measuring.measure_stage(assembly, state, tmp_path)

  return run


def test_all_rows_in_the_order_of_the_evaluators(measure):
  rows = measure(a=rows_of('student', 'teacher'), b=rows_of('student'))
  assert [row['model'] for row in rows] == ['student', 'teacher', 'student']
  assert {row['step'] for row in rows} == {4}


def test_one_that_fails_takes_no_row_along(measure):
  lost = ValueError('the samples of student are not finite')
  with pytest.raises(Unmeasured) as found:
    measure(a=rows_of('teacher', 'student', error=lost), b=rows_of('last'))
  models = [row['model'] for row in found.value.rows]
  assert models == ['teacher', 'student', 'last']
  assert str(found.value) == (
    "the evaluator 'a' failed: the samples of student are not finite"
  )


def test_all_that_fail_are_named(measure):
  with pytest.raises(Unmeasured, match="'a' failed: x; the evaluator 'b' fa"):
    measure(a=rows_of(error=ValueError('x')), b=rows_of(error=ValueError('y')))


def test_a_mistake_in_the_config_ends_it_at_once(measure):
  with pytest.raises(ConfigError, match='^wrong$'):
    measure(a=rows_of(error=ConfigError('wrong')), b=rows_of('last'))
