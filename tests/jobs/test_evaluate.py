"""What an evaluation writes, also if something could not be measured."""

from types import SimpleNamespace

import pytest

from flowdistill.jobs import evaluate
from flowdistill.stages.failure import Unmeasured
from flowdistill.workdir.folders import identity
from flowdistill.workdir.results import read_rows

KEPT = {'model': 'teacher', 'step': 2, 'frechet_digits': 1.5}
LOST = {'model': 'student', 'step': 2, 'diverged': 3}


def test_the_rows_are_written_before_the_error(tmp_path, monkeypatch):
  def measure_stage(*_, **__):
    raise Unmeasured('the samples of student are not finite', [KEPT, LOST])

  monkeypatch.setattr(evaluate, 'measure_stage', measure_stage)
  stage = tmp_path / 'flow'
  stage.mkdir()
  assembly = SimpleNamespace(blueprint=SimpleNamespace(folder=stage))
  with pytest.raises(Unmeasured, match='the samples of student'):
    evaluate.measure(assembly, SimpleNamespace(step=2), identity(stage))
  path = stage / 'evaluations' / '00000002' / 'results.json'
  assert read_rows(path) == [KEPT, LOST]


@pytest.mark.parametrize('failed', [[], [Unmeasured('of student', [])]])
def test_without_a_best_way_the_role_that_is_lost_is_named(monkeypatch, failed):
  def write_best(*_):
    raise ValueError('finite for none')

  monkeypatch.setattr(evaluate, 'write_best', write_best)
  message = 'of student' if failed else 'finite for none'
  with pytest.raises((ValueError, Unmeasured), match=f'^{message}$'):
    evaluate.best(None, None, [], failed)
