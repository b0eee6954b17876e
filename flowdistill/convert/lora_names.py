"""What a tensor of a LoRA file is, by its name.

  transformer.X.lora_A.weight          diffusers, and ComfyUI
  base_model.model.X.lora_A.weight     PEFT
  diffusion_model.Y.lora_down.weight   ComfyUI
  lora_unet_Y_.lora_down.weight        kohya, with underscores for dots
  X.alpha                              α of a layer

X is a layer of diffusers, Y one of the original network, or also of diffusers.

Sources: https://github.com/huggingface/diffusers, loaders/; of PEFT,
https://github.com/huggingface/peft; of ComfyUI, comfy/lora.py of
https://github.com/comfyanonymous/ComfyUI; https://github.com/kohya-ss/sd-scripts.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from flowdistill.convert.lora_fused import ORIGINALS, Fused

A, B, ALPHA = 'A', 'B', 'alpha'
ENDS = {
  '.lora_A.weight': A,
  '.lora_A.default.weight': A,
  '.lora_B.weight': B,
  '.lora_B.default.weight': B,
  '.lora_down.weight': A,
  '.lora_up.weight': B,
  '.lora.down.weight': A,
  '.lora.up.weight': B,
  '_lora.down.weight': A,
  '_lora.up.weight': B,
  '.alpha': ALPHA,
}
"""How a name ends -> what it is."""
PREFIXES = (
  *('base_model.model.transformer.', 'base_model.model.'),
  *('model.diffusion_model.', 'diffusion_model.', 'transformer.', ''),
)
UNDERSCORED = ('lora_unet_', 'lora_transformer_', 'lycoris_')


@dataclasses.dataclass(frozen=True)
class Layer:
  """The tensors of one layer of a file.

  Attributes:
    target: what they update.
    names: A, B and ALPHA, those that are there -> name.
  """

  target: Fused
  names: Mapping[str, str]


class Names:
  """The layers of a network by all names that files may have for them.

  Args:
    layers: linear layers of the network, in diffusers.
    network: its name, for layers of its original.
  """

  def __init__(self, layers: Iterable[str], network: str):
    layers = list(layers)
    original = ORIGINALS[network](layers) if network in ORIGINALS else []
    self.dotted = {layer.name: layer for layer in original}
    self.dotted |= {name: Fused(name, (name,)) for name in layers}
    self.underscored = {
      name.replace('.', '_'): layer for name, layer in self.dotted.items()
    }

  def target(self, module: str) -> Fused | None:
    """The layer that a name without its end means; None for another."""
    for prefix in PREFIXES:
      rest = module.removeprefix(prefix)
      if module.startswith(prefix) and rest in self.dotted:
        return self.dotted[rest]
    for prefix in UNDERSCORED:
      rest = module.removeprefix(prefix)
      if module.startswith(prefix) and rest in self.underscored:
        return self.underscored[rest]
    return None

  def sort(self, names: Iterable[str]) -> tuple[list[Layer], list[str]]:
    """The layers of a file, and the names that belong to none of them.

    Raises:
      ValueError: if a layer has one of its tensors twice.
    """
    found: dict[str, dict[str, str]] = {}
    left = list[str]()
    for name in sorted(names):
      module, what = split(name)
      if what is None or self.target(module) is None:
        left.append(name)
        continue
      own = found.setdefault(module, {})
      if what in own:
        raise ValueError(f'{own[what]} and {name} are the same tensor')
      own[what] = name
    layers = list[Layer]()
    for module, own in found.items():
      target: Any = self.target(module)
      if own.keys() >= {A, B}:
        layers.append(Layer(target, own))
      else:
        left += own.values()
    return layers, left


def split(name: str) -> tuple[str, str | None]:
  """'transformer.X.lora_A.weight' -> 'transformer.X', A; None for others."""
  for end, what in ENDS.items():
    if name.endswith(end):
      return name.removesuffix(end), what
  return name, None
