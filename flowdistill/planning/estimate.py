"""The time and the cost of a planned step on a kind of device.

Matrix products run at a given share of the peak, and communication at the
nominal bandwidth, without latency and with all links of a device in use, which
is the best case. A collective that spans domains (slices, hosts of GPUs) is
first done within each, so that fewer bytes leave it. Nothing is measured.
"""

import math
from collections.abc import Mapping, Sequence

from flowdistill.evaluators.signature import Row
from flowdistill.planning.hardware import HARDWARE, Hardware
from flowdistill.planning.traffic import Transfer


def estimate(
  row: Row, kind: str, *, utilisation: float, price: float = 0.0
) -> Row:
  """Time, cost, their bottleneck, and whether the step fits into memory.

  Args:
    row: as `forecast` returns it.
    kind: of device, a name in HARDWARE.
    utilisation: of the peak of its products, as a share.
    price: of a device for an hour.
  """
  device = HARDWARE[kind]
  products = row['flops_per_step'] / (
    row['devices'] * device.flops * utilisation
  )
  each = [seconds(t, row['mesh'], device) for t in row['traffic']]
  sending = sum(each)
  step = max(products, sending)
  hours = row['devices'] * row['steps'] * step / 3600
  share = row['bytes_per_device']['peak'] / device.memory
  return {
    'kind': kind,
    'utilisation': utilisation,
    'seconds_of_products': products,
    'seconds_of_communication': sending,
    'seconds_of_traffic': each,
    'seconds_per_step': step,
    'seconds_per_step_apart': products + sending,
    'bound_by': 'communication' if sending > products else 'products',
    'dominant': dominant(row['traffic'], each),
    'device_hours': hours,
    'dollars': hours * price if price else None,
    'memory': device.memory,
    'share_of_memory': share,
    'fits': share <= 1,
  }


def dominant(
  transfers: Sequence[Transfer], times: Sequence[float]
) -> str | None:
  """The transfer that takes longest: 'all-reduce of gradients along data'."""
  if not transfers:
    return None
  slowest, _ = max(zip(transfers, times, strict=True), key=lambda pair: pair[1])
  return f'{slowest.collective} of {slowest.what} along {slowest.axis}'


def seconds(
  transfer: Transfer, mesh: Mapping[str, int], device: Hardware
) -> float:
  """The time of a step's transfers of one kind.

  Neighbours along the last axis of the mesh are neighbours in a domain; along
  another axis, their distance is the product of the sizes of all later axes.
  """
  names = list(mesh)
  after = names[names.index(transfer.axis) + 1 :]
  distance = math.prod(mesh[name] for name in after)
  near = math.gcd(transfer.size, max(1, device.domain // distance))
  leaving = transfer.between(near)
  within = transfer.moved - leaving
  return within / device.link + leaving / device.network
