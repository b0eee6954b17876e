"""The watchdog of a run, and what it does before it ends the process."""

import pytest

from flowdistill.stages import hosts
from flowdistill.workdir.lock import LOCK, Lock


def test_a_process_that_gives_up_leaves_no_lock(tmp_path, monkeypatch):
  def end(message, code):
    assert not (tmp_path / LOCK).exists()
    raise SystemExit(f'{message} {code}')

  monkeypatch.setattr(hosts, 'give_up', end)
  dog = hosts.watch({'a': {'hosts': {'timeout': 9}}}, tmp_path)
  assert dog.timeout == 9
  with Lock(tmp_path, 'train'):
    with pytest.raises(SystemExit, match='process 1 hangs 75'):
      dog.on_missing('process 1 hangs', 75)
