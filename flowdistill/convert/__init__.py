"""Weights of other systems: two-way rules for their names and layouts."""

from flowdistill.convert import (
  adm,
  edm,
  edm2,
  edm2_options,
  edm_options,
  flux,
  flux_original,
  ncsnpp,
  sd3,
  sd3_original,
  sit,
)
from flowdistill.convert.converter import Converter
from flowdistill.convert.stacked_converter import StackedConverter

FROM_EPS = {'name': 'uniform', 'start': 0.999}
"""Rectified flow and SlimFlow train, and start samples, at their time eps =
0.001, which is our 0.999."""
KARRAS = {'name': 'karras'}  # ρ, σ_min and σ_max are EDM's there
CONVERTERS = {
  'ncsnpp': Converter(
    naming=ncsnpp.NAMING, make_rules=ncsnpp.make_rules, grid=FROM_EPS
  ),
  'adm': Converter(
    naming=adm.NAMING,
    make_rules=adm.make_rules,
    grid=FROM_EPS,
    side=adm.SIDE,
    buffers=adm.filters,
  ),
  'edm_adm': Converter(
    naming=edm.NAMING,
    make_rules=edm.adm_rules,
    grid=KARRAS,
    side=adm.SIDE,
    buffers=edm.filters,
    changes=edm_options.changes,
  ),
  'edm_ncsnpp': Converter(
    naming=edm.NAMING,
    make_rules=edm.ncsnpp_rules,
    grid=KARRAS,
    side=adm.SIDE,
    buffers=edm.filters,
    changes=edm_options.changes,
  ),
  'edm2': Converter(
    naming=edm2.NAMING,
    make_rules=edm2.make_rules,
    grid=KARRAS,
    side=edm2.SIDE,
    changes=edm2_options.changes,
  ),
  'flux': StackedConverter(
    naming=flux.NAMING,
    make_rules=lambda shapes, side: flux.make_rules(shapes),
    grid={'name': 'uniform'},
    named=flux.in_diffusers,
    original=flux_original.to_original,
    only_ours=flux.ONLY_OURS,
    check=flux.check_guidance,
  ),
  'sd3': StackedConverter(
    naming=sd3.NAMING,
    make_rules=lambda shapes, side: sd3.make_rules(shapes),
    grid={'name': 'shifted'},  # by 3
    named=sd3.in_diffusers,
    original=sd3_original.to_original,
    only_ours=sd3.ONLY_OURS,
  ),
  'sit': sit.SiTConverter(
    naming=sit.NAMING,
    make_rules=lambda shapes, side: sit.make_rules(shapes),
    grid={'name': 'uniform'},
  ),
}
"""Name of a network -> the converter of its weights elsewhere."""
