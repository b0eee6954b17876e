"""Networks of diffusers, run on the inputs of ours: to check what we write.

Imported when a check is asked for: PyTorch, diffusers and PEFT come with the
extra `torch`. Nothing is fetched, and no code of a folder is run.
"""

import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import diffusers
import numpy as np
import torch

from flowdistill.convert.diffusers_classes import FLOW_MAPS, PLAIN
from flowdistill.convert.diffusers_folder import class_of
from flowdistill.convert.flow_maps import flow_map_transformer
from flowdistill.convert.names import listed
from flowdistill.convert.pipelines import PIPELINES

THOUSAND = 1000
PACK = 2  # side of the latents in a token
Cond = Mapping[str, np.ndarray]


def load_folder(network: str, path: pathlib.Path) -> torch.nn.Module:
  """The network in a folder, in float32.

  Raises:
    ValueError: naming tensors that are missing, not expected, or do not fit.
  """
  ours = class_of(path) == FLOW_MAPS[network]
  kind = getattr(flow_map_transformer if ours else diffusers, class_of(path))
  try:
    model, report = kind.from_pretrained(
      str(path), local_files_only=True, output_loading_info=True
    )
  except (OSError, RuntimeError, ValueError) as error:
    raise ValueError(f'{path}: diffusers cannot load it: {error}') from error
  for what, names in report.items():
    if names:
      raise ValueError(f'{path}: {what}: {listed(sorted(map(str, names)))}')
  return model.float().eval()


def make_model(
  network: str, config: Mapping[str, Any], theirs: Mapping[str, np.ndarray]
) -> torch.nn.Module:
  """A network by its config.json and its arrays."""
  options = {k: v for k, v in config.items() if not k.startswith('_')}
  model = getattr(diffusers, PLAIN[network])(**options)
  state = {n: tensor(x) for n, x in theirs.items()}
  model.load_state_dict(state)
  return model.eval()


def tensor(array: np.ndarray) -> torch.Tensor:
  """An array in float32."""
  return torch.from_numpy(np.array(array, np.float32, order='C'))


@torch.no_grad()
def answer(
  network: str,
  model: Any,
  x: np.ndarray,
  t: np.ndarray,
  s: np.ndarray,
  cond: Cond,
) -> np.ndarray:
  """Latents [b, h, w, c] and times [b] -> the velocity, [b, h, w, c]."""
  given = _captions(cond)
  if isinstance(model, flow_map_transformer.TwoTimes):
    given |= {'timestep': tensor(t), 'target': tensor(s)}
    if model.config.takes_guidance:
      given['scale'] = tensor(cond['guidance'])
  else:
    middle = tensor(t - (t - s) / 2)
    given['timestep'] = THOUSAND * middle if network == 'sd3' else middle
  found = ANSWERS[network](model, tensor(x), cond, given)
  return found.permute(0, 2, 3, 1).numpy()


def _captions(cond: Cond) -> dict[str, Any]:
  return {
    'encoder_hidden_states': tensor(cond['text']),
    'pooled_projections': tensor(cond['pooled']),
    'return_dict': False,
  }


def _flux(
  model: Any, x: torch.Tensor, cond: Cond, given: dict[str, Any]
) -> torch.Tensor:
  kind = diffusers.FluxPipeline
  if 'control' in cond:
    x = torch.cat([x, tensor(cond['control'])], -1)
  b, h, w, channels = x.shape
  packed = model(
    hidden_states=kind._pack_latents(x.permute(0, 3, 1, 2), b, channels, h, w),
    guidance=tensor(cond['distilled_guidance'])
    if model.config.guidance_embeds
    else None,
    img_ids=kind._prepare_latent_image_ids(
      b, h // PACK, w // PACK, x.device, x.dtype
    ),
    txt_ids=torch.zeros(cond['text'].shape[1], 3),
    **given,
  )[0]
  return kind._unpack_latents(packed, h, w, 1)


def _sd3(
  model: Any, x: torch.Tensor, cond: Cond, given: dict[str, Any]
) -> torch.Tensor:
  del cond
  return model(hidden_states=x.permute(0, 3, 1, 2), **given)[0]


ANSWERS: Mapping[str, Callable[..., torch.Tensor]] = {
  'flux': _flux,
  'sd3': _sd3,
}


def add_lora(
  network: str, model: torch.nn.Module, file: pathlib.Path
) -> dict[str, np.ndarray]:
  """Adds a file of LoRA to the weights by the pipeline's own loader.

  Returns:
    name -> its update, of all arrays that have changed.

  Raises:
    ValueError: if diffusers refuses the file.
  """
  kind = getattr(diffusers, PIPELINES[network])
  known = inspect.signature(kind.__init__).parameters
  needed = [
    name
    for name, parameter in known.items()
    if parameter.default is inspect.Parameter.empty
  ]
  parts = {**dict.fromkeys(needed[1:]), 'transformer': model}  # without self
  before = {name: x.clone() for name, x in model.state_dict().items()}
  pipeline = kind(**parts)
  try:
    pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    pipeline.fuse_lora(components=['transformer'])
    pipeline.unload_lora_weights()
  except (OSError, RuntimeError, ValueError, KeyError) as error:
    raise ValueError(f'{file}: diffusers cannot load it: {error}') from error
  moved = {n: x - before[n] for n, x in model.state_dict().items()}
  return {n: x.numpy() for n, x in moved.items() if x.any()}
