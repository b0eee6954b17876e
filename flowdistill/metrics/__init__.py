"""Metrics: functions of arrays of features, in float64 where it matters."""

from flowdistill.metrics.clip_score import clip_score
from flowdistill.metrics.frechet import frechet, spatial_frechet
from flowdistill.metrics.inception_score import inception_score
from flowdistill.metrics.kernel import kernel_distance
from flowdistill.metrics.metric import Metric
from flowdistill.metrics.precision_recall import (
  density_coverage,
  precision_recall,
)

METRICS = {
  'frechet': Metric(
    frechet,
    needs='moments',
    better='lower',
    least=lambda: 2,
    source='Heusel et al. (2017), https://arxiv.org/abs/1706.08500',
  ),
  'spatial_frechet': Metric(
    spatial_frechet,
    needs='spatial',
    better='lower',
    least=lambda: 2,
    source='Nash et al. (2021), https://arxiv.org/abs/2103.03841',
  ),
  'inception_score': Metric(
    inception_score,
    needs='logits',
    better='higher',
    least=lambda splits, seed: splits,
    source='Salimans et al. (2016), https://arxiv.org/abs/1606.03498',
  ),
  'kernel': Metric(
    kernel_distance,
    needs='features',
    better='lower',
    least=lambda subsets, size, seed: 3 if subsets is None else size,
    source='Binkowski et al. (2018), https://arxiv.org/abs/1801.01401',
  ),
  'precision_recall': Metric(
    precision_recall,
    needs='features',
    better='higher',
    least=lambda k: k + 1,
    source='Kynkaanniemi et al. (2019), https://arxiv.org/abs/1904.06991',
  ),
  'density_coverage': Metric(
    density_coverage,
    needs='features',
    better='higher',
    least=lambda k: k + 1,
    source='Naeem et al. (2020), https://arxiv.org/abs/2002.09797',
  ),
  'clip_score': Metric(
    clip_score,
    needs='pairs',
    better='higher',
    least=lambda: 2,
    source='Hessel et al. (2021), https://arxiv.org/abs/2104.08718',
  ),
}
"""Name of a metric -> what it computes, from what."""
