"""Which stages and devices have a counterpart in PyTorch."""

import importlib
import importlib.util
from collections.abc import Collection
from typing import Any

import jax

from flowdistill.build.blueprint import Blueprint
from flowdistill.config.bind import ConfigError, Spec
from flowdistill.config.sections import STUDENT
from flowdistill.flow.spec import LABEL

OBJECTIVES = ('rectified_flow', 'ayf_emd')
OPTIMISERS = ('adam', 'adamw', 'radam')
PLATFORMS = {'gpu': 'cuda', 'cpu': 'cpu'}
"""A backend of JAX -> its name in PyTorch."""
PLAIN = {  # option of a network -> its only value
  'dtype': 'float32',
  'remat': None,
  'attention_form': 'plain',
  'dropout': 0.0,
  'fir': False,
}
WITHOUT_EFFECT = ('text', 'text_depth', 'null')  # where data have no text
RESTATED = {  # network -> the options that it has in PyTorch
  'dit': ('patch', 'width', 'depth', 'heads', 'mlp_ratio'),
  'edm2': (
    'width',
    'res_blocks',
    'ch_mult',
    'attention',
    'head_channels',
    'sigma_data',
    'time',
  ),
}
SHARED = ('max_frequency', 'scalars')  # by both of them


def restated(network: Spec) -> dict[str, Any]:
  """The options of a network that it has in PyTorch too."""
  names = (*RESTATED[network['name']], *SHARED)
  return {name: network[name] for name in names}


def check_installed() -> None:
  """Raises ConfigError without PyTorch."""
  if importlib.util.find_spec('torch') is None:
    raise ConfigError(
      '--against=torch needs PyTorch, which is not installed: '
      "pip install 'flowdistill[torch]'"
    )


def check_backend() -> None:
  """Raises ConfigError if PyTorch has no devices of the kind that JAX uses."""
  backend = jax.default_backend()
  if backend == 'cpu':
    return
  torch = importlib.import_module('torch')
  if backend not in PLATFORMS or not torch.cuda.is_available():
    raise ConfigError(
      f'--against=torch: this PyTorch has no {backend.upper()}, which JAX '
      'uses; set JAX_PLATFORMS=cpu'
    )


def check(blueprint: Blueprint) -> None:
  """Raises ConfigError for a stage that is not restated in PyTorch."""
  spec = blueprint.spec
  one_of(blueprint, 'network.name', spec['network']['name'], RESTATED)
  one_of(blueprint, 'objective.name', spec['objective']['name'], OBJECTIVES)
  own = spec['optim']
  one_of(
    blueprint, 'optim.optimiser.name', own['optimiser']['name'], OPTIMISERS
  )
  only(blueprint, 'optim.accumulate', own['accumulate'], 1)
  only(blueprint, 'optim.only', own['only'], '*')
  only(blueprint, 'optim.state_dtype', own['state_dtype'], 'float32')
  only(blueprint, 'lora', spec['lora'], None)
  check_network(blueprint, 'network', spec['network'])
  check_objective(blueprint, spec['objective'])
  only(blueprint, 'roles', [n for n in blueprint.learns if n != STUDENT], [])
  conditions = [n for n in blueprint.sees.cond if n != LABEL]
  only(blueprint, 'dataset', conditions, [], 'conditions besides the label')
  if 'teacher' in blueprint.stage.frozen:
    check_teacher(blueprint)


def check_network(blueprint: Blueprint, key: str, spec: Spec) -> None:
  for name, value in PLAIN.items():
    only(blueprint, f'{key}.{name}', spec.get(name, value), value)


def check_objective(blueprint: Blueprint, spec: Spec) -> None:
  only(blueprint, 'objective.reduction.name', spec['reduction']['name'], 'sum')
  if spec['name'] == 'ayf_emd':
    only(blueprint, 'objective.guidance', spec['guidance'], None)
    only(blueprint, 'objective.tangent.name', spec['tangent']['name'], 'jvp')
  else:
    only(blueprint, 'objective.distance', [*spec['distance']], ['l2'])


def check_teacher(blueprint: Blueprint) -> None:
  """The frozen network, which must be of a stage of this package."""
  weights = blueprint.weights('teacher')
  stage, dtype = weights.stage, weights.reference.dtype
  only(blueprint, 'frozen.teacher.dtype', dtype, 'float32')
  form = weights.reference.attention_form
  only(blueprint, 'frozen.teacher.attention_form', form, None)
  name = 'a file' if stage is None else stage.spec['network']['name']
  one_of(blueprint, 'frozen.teacher', name, RESTATED)
  if stage is not None:
    check_network(blueprint, 'frozen.teacher: network', stage.spec['network'])


def one_of(
  blueprint: Blueprint, key: str, value: str, choices: Collection[str]
) -> None:
  if value not in choices:
    raise ConfigError(
      f'config.{blueprint.key(key)} = {value!r} must be one of '
      f'{", ".join(map(repr, choices))} with --against=torch: only these have '
      'a counterpart in PyTorch'
    )


def only(
  blueprint: Blueprint, key: str, value: object, wanted: object, what: str = ''
) -> None:
  if value != wanted:
    what = f' {what}' if what else ''
    raise ConfigError(
      f'config.{blueprint.key(key)} ={what} {value!r} must be {wanted!r} with '
      '--against=torch: nothing else has a counterpart in PyTorch'
    )
