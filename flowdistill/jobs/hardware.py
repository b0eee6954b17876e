"""Accelerators that can be rented: what one device can do and hold.

Peaks are dense products in bfloat16, memory is in decimal gigabytes. Sources:
NVIDIA, "H100 Tensor Core GPU" and "H200 Tensor Core GPU" data sheets, SXM
(1 979 TFLOP/s with sparsity, half of it dense),
https://www.nvidia.com/en-us/data-center/h100/ and
https://www.nvidia.com/en-us/data-center/h200/; Google Cloud, "TPU v5e", "TPU
v5p" and "TPU v6e", per chip, https://docs.cloud.google.com/tpu/docs/v5e, /v5p
and /v6e.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Hardware:
  """One device.

  Attributes:
    flops: dense products in bfloat16, floating point operations a second.
    memory: bytes.
  """

  flops: float
  memory: float


HARDWARE = {
  'h100': Hardware(989.4e12, 80e9),
  'h200': Hardware(989.4e12, 141e9),
  'v5e': Hardware(197e12, 16e9),
  'v5p': Hardware(459e12, 95e9),
  'v6e': Hardware(918e12, 32e9),
}
