"""The figures of torch-fidelity on the same features, to 4 digits."""

import numpy as np
import pytest

from flowdistill.metrics.frechet import frechet_distance
from flowdistill.metrics.inception_score import inception_score
from flowdistill.metrics.kernel import kernel_distance
from flowdistill.metrics.moments import moments
from flowdistill.metrics.precision_recall import precision_recall

pytest.importorskip('torch_fidelity')
import torch
from torch_fidelity import (
  metric_fid,
  metric_isc,
  metric_kid,
  metric_prc,
)


@pytest.fixture(scope='module')
def sets():
  """(samples [500, 48], reference [400, 48]) in float32, as of a network."""
  rng = np.random.default_rng(0)
  mix = rng.standard_normal((48, 48)) * np.exp(-np.arange(48) / 12)
  samples = np.maximum(rng.standard_normal((500, 48)) @ mix * 1.1 + 0.2, 0)
  reference = np.maximum(rng.standard_normal((400, 48)) @ mix + 0.3, 0)
  return samples.astype(np.float32), reference.astype(np.float32)


def test_fid(sets):
  theirs = metric_fid.fid_statistics_to_metric(
    *(metric_fid.fid_features_to_statistics(torch.tensor(x)) for x in sets),
    verbose=False,
  )['frechet_inception_distance']
  ours = frechet_distance(*map(moments, sets))
  assert ours == pytest.approx(theirs, rel=1e-5)


def test_kid_of_all(sets):
  """In float64, as theirs is computed in the type of the features."""
  samples, reference = sets[0][:400], sets[1]
  theirs = metric_kid.kid_features_to_metric(
    *(torch.tensor(x).double() for x in (samples, reference)),
    kid_subsets=1,
    kid_subset_size=400,
    verbose=False,
  )['kernel_inception_distance_mean']
  ours = kernel_distance(samples, reference, subsets=None)['kernel']
  assert ours == pytest.approx(theirs, rel=1e-9)


def test_kid_of_subsets(sets):
  """They are other ones: within four standard errors of the difference."""
  theirs = metric_kid.kid_features_to_metric(
    *map(torch.tensor, sets),
    kid_subsets=100,
    kid_subset_size=100,
    verbose=False,
  )
  ours = kernel_distance(*sets, size=100)
  apart = ours['kernel'] - theirs['kernel_inception_distance_mean']
  assert abs(apart) < 4 * np.sqrt(2) * ours['kernel_error']
  deviation = theirs['kernel_inception_distance_std']
  assert ours['kernel_error'] * 10 == pytest.approx(deviation, rel=0.3)


def test_inception_score(sets):
  theirs = metric_isc.isc_features_to_metric(
    torch.tensor(sets[0]), splits=10, shuffle=False
  )
  ours = inception_score(sets[0], splits=10, seed=None)
  assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-9)


def test_precision_and_recall(sets):
  theirs = metric_prc.prc_features_to_metric(
    *map(torch.tensor, sets), verbose=False
  )
  ours = precision_recall(*sets)
  assert 0 < ours['precision'] < 1 and 0 < ours['recall'] < 1
  assert ours == {name: pytest.approx(theirs[name]) for name in ours}
