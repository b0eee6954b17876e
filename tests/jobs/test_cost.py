"""The cost of a training step, counted on a stage as it is trained."""

import pytest
from jobs import tiny

from flowdistill.jobs.assemble import assemble
from flowdistill.jobs.cost import forward_passes


def test_a_gradient_is_three_forward_passes(tmp_path):
  spec = tiny.stages(tiny.CONFIGS / 'quickstart.py')['flow']
  assembly = assemble(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(assembly) == pytest.approx(3, rel=0.02)


def test_it_is_that_of_the_objective(tmp_path):
  """MeanFlow has a tangent besides."""
  config = tiny.CONFIGS / 'quickstart.py'
  spec = tiny.stages(config, 'stages.flow.objective=mean_flow')['flow']
  assembly = assemble(spec, tmp_path / 'flow', tmp_path)
  assert forward_passes(assembly) == pytest.approx(4, rel=0.02)
