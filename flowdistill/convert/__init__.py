"""Weights of other systems: two-way rules for their names and layouts."""

from flowdistill.convert import adm, edm2, edm2_options, ncsnpp, sit
from flowdistill.convert.rules import Converter

FROM_EPS = {'name': 'uniform', 'start': 0.999}
"""Rectified flow and SlimFlow train, and start samples, at their time eps =
0.001, which is our 0.999."""
CONVERTERS = {
  'ncsnpp': Converter(
    naming=ncsnpp.NAMING,
    wanted=ncsnpp.wanted,
    from_torch=ncsnpp.from_torch,
    ema_from_torch=ncsnpp.ema_from_torch,
    to_torch=lambda arrays, side: ncsnpp.to_torch(arrays),
    grid=FROM_EPS,
  ),
  'adm': Converter(
    naming=adm.NAMING,
    wanted=adm.wanted,
    from_torch=adm.from_torch,
    ema_from_torch=adm.ema_from_torch,
    to_torch=adm.to_torch,
    grid=FROM_EPS,
  ),
  'edm2': Converter(
    naming=edm2.NAMING,
    wanted=edm2.wanted,
    from_torch=edm2.from_torch,
    ema_from_torch=edm2.ema_from_torch,
    to_torch=edm2.to_torch,
    grid={'name': 'karras'},  # ρ, σ_min and σ_max are EDM's there
    changes=edm2_options.changes,
  ),
  'sit': Converter(
    naming=sit.NAMING,
    wanted=sit.wanted,
    from_torch=sit.from_torch,
    ema_from_torch=sit.ema_from_torch,
    to_torch=lambda arrays, side: sit.to_torch(arrays),
    grid={'name': 'uniform'},
    to_flax=sit.to_flax,
  ),
}
"""Name of a network -> the converter of its weights elsewhere."""
