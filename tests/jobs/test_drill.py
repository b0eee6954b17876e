"""A run on two hosts that is disturbed again and again ends the same."""

import drill
import pytest


@pytest.mark.slow
def test_a_disturbed_run_ends_the_same_to_the_byte(tmp_path):
  """The short form: a host dies, and one freezes."""
  drill.drill(tmp_path, ['kill', 'freeze'], seed=1, limit=600)


@pytest.mark.slow
def test_a_run_survives_twenty_faults(tmp_path):
  kinds = drill.schedule(20, seed=0)
  assert min(map(kinds.count, drill.FAULTS)) >= 3
  drill.drill(tmp_path, kinds, seed=0, limit=1500)
