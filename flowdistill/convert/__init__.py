"""Weights of other systems: two-way rules for their names and layouts."""

from flowdistill.convert import adm, ncsnpp
from flowdistill.convert.rules import Converter

CONVERTERS = {
  'ncsnpp': Converter(
    wanted=ncsnpp.wanted,
    from_torch=ncsnpp.from_torch,
    ema_from_torch=ncsnpp.ema_from_torch,
    to_torch=lambda arrays, side: ncsnpp.to_torch(arrays),
  ),
  'adm': Converter(
    wanted=adm.wanted,
    from_torch=adm.from_torch,
    ema_from_torch=adm.ema_from_torch,
    to_torch=adm.to_torch,
  ),
}
"""Name of a network -> the converter of its PyTorch weights."""
