"""Writes arrays as .safetensors."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_safetensors(
  path: pathlib.Path,
  arrays: Mapping[str, Any],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes arrays by their names, and words about them."""
  # save_file ignores strides, so a transposed array must be copied first;
  # np.ascontiguousarray would make a vector of a scalar.
  plain = {name: np.asarray(x, order='C') for name, x in arrays.items()}
  save_file(plain, path, dict(metadata) if metadata else None)
