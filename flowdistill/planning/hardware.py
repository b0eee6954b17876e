"""Accelerators that can be rented: FLOPs, memory and bandwidth of one device.

Peaks are those of dense bfloat16 products, sizes are decimal, and bandwidths
are the sum over all links of a device in one direction, half of the
bidirectional ones. Sources:

- NVIDIA, "H100 Tensor Core GPU" and "H200 Tensor Core GPU" data sheets, SXM
  (1 979 TFLOP/s with sparsity, half of it dense; NVLink 900 GB/s in both
  directions), https://www.nvidia.com/en-us/data-center/h100/ and /h200/; "DGX
  H100/H200 User Guide": eight of them, and a ConnectX-7 of 400 Gb/s for each,
  https://docs.nvidia.com/dgx/dgxh100-user-guide/.
- Google Cloud, "TPU v5e", "TPU v5p" and "TPU v6e", per chip,
  https://docs.cloud.google.com/tpu/docs/v5e, /v5p and /v6e: ICI 1 600, 4 800
  and 3 200 Gb/s; the network between slices 6.4 and 25.6 Tb/s for 256 chips of
  v5e and v6e, 50 Gb/s for a chip of v5p; the largest slices.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hardware:
  """One device.

  Attributes:
    flops: peak of dense bfloat16 products, in FLOP/s.
    memory: in bytes.
    link: bytes/s in one direction within its domain (NVLink, ICI).
    network: bytes/s in one direction to other domains.
    domain: the largest number of devices that `link` connects.
    kinds: its names in JAX, `jax.devices()[0].device_kind`.
  """

  flops: float
  memory: float
  link: float
  network: float
  domain: int
  kinds: tuple[str, ...]


HARDWARE = {
  'h100': Hardware(989.4e12, 80e9, 450e9, 50e9, 8, ('NVIDIA H100 80GB HBM3',)),
  'h200': Hardware(989.4e12, 141e9, 450e9, 50e9, 8, ('NVIDIA H200',)),
  'v5e': Hardware(
    197e12, 16e9, 200e9, 3.125e9, 256, ('TPU v5 lite', 'TPU v5e')
  ),
  'v5p': Hardware(459e12, 95e9, 600e9, 6.25e9, 6144, ('TPU v5', 'TPU v5p')),
  'v6e': Hardware(918e12, 32e9, 400e9, 12.5e9, 256, ('TPU v6 lite', 'TPU v6e')),
}


def peak_of(kind: str) -> float | None:
  """Peak FLOP/s of the device that JAX calls `kind`; None if unknown."""
  return next((h.flops for h in HARDWARE.values() if kind in h.kinds), None)
