"""Checks which networks the objectives of a stage ask for, and train."""

from collections.abc import Mapping
from typing import Any

from flowdistill.build.attention import DIFFERENTIABLE, OPTION, has_jvp
from flowdistill.build.blueprint import Blueprint
from flowdistill.build.tables import ROOMS
from flowdistill.config.bind import ConfigError
from flowdistill.config.protocols import Network
from flowdistill.config.sections import STUDENT
from flowdistill.objectives.roles import ANSWERS
from flowdistill.training.roles import AVERAGE, VELOCITY

ADVERSARIAL, RELATIVISTIC = 'adversarial', 'relativistic'
CRITIC = 'discriminator'
TWIN = 'twinflow'
JVP = 'jvp'
EVEN = {n: {'time': 'edm'} for n in ('edm2', 'edm_adm', 'edm_ncsnpp')}
"""Network -> its options with which it does not tell t from −t."""
TRAINS = {ADVERSARIAL: STUDENT, RELATIVISTIC: CRITIC}
"""Name of an objective -> the only role that it can train."""


def check_objectives(blueprint: Blueprint) -> None:
  """Checks the objectives of a stage against its roles and each other.

  Raises:
    ConfigError: if an objective trains another role, the base of `adversarial`
      is no objective of a student, the fakes of both objectives differ, the
      network of a twin does not tell its times from those of the student, one
      that ignores s is trained as an average velocity, the attention of a
      network has no derivative that its objective needs, or its features have
      no alignment.
  """
  specs = {r: blueprint.learner_spec(r)['objective'] for r in blueprint.learns}
  for role, spec in specs.items():
    name, key = spec['name'], blueprint.learner_key(role, 'objective')
    wanted = TRAINS.get(name, role)
    if wanted != role:
      raise ConfigError(
        f'config.{key} = {name!r} must be the objective of the {wanted}: it '
        f'does not train the {role}'
      )
    if name == ADVERSARIAL and (base := spec['base']['name']) in TRAINS:
      raise ConfigError(
        f'config.{key}.base = {base!r} must be an objective that trains a '
        "student without a discriminator, such as 'ayf_emd'"
      )
    check_twin(blueprint, role)
    check_times(blueprint, role)
    check_attention(blueprint, role)
    check_features(blueprint, role)
  check_fakes(blueprint, specs)
  check_scale(blueprint, specs[STUDENT])


def check_twin(blueprint: Blueprint, role: str) -> None:
  """The twin of TwinFlow is the student at negative times.

  Raises:
    ConfigError: if its network answers the same at −t as at t.
  """
  spec = blueprint.learner_spec(role)
  own, network = spec['objective'], spec['network']
  objective = own.get('base', own)
  even = EVEN.get(network['name'], {})
  if objective['name'] != TWIN or not objective['kinds']['adv'] or not even:
    return
  if all(network[option] == value for option, value in even.items()):
    (option, value), *_ = even.items()
    key = blueprint.learner_key(role, f'network.{option}')
    raise ConfigError(
      f"config.{key} = {value!r} must be 'linear' for {TWIN!r}: its twin is "
      f'this network at −t, which with {value!r} answers the same at t and −t'
    )


def check_attention(blueprint: Blueprint, role: str) -> None:
  """A network under jvp must have attention that has one.

  Raises:
    ConfigError: if it is fused.
  """
  spec = blueprint.learner_spec(role)
  own, network = spec['objective'], spec['network']
  objective = own.get('base', own)
  tangent = objective.get('tangent')
  if not tangent or tangent['name'] != JVP:
    return
  if not has_jvp(network):
    key = blueprint.learner_key(role, f'network.{OPTION}')
    others = ' or '.join(map(repr, DIFFERENTIABLE))
    raise ConfigError(
      f'config.{key} = {network[OPTION]!r} must be {others} for '
      f'{objective["name"]!r}, whose tangent = {JVP!r} no fused attention has'
    )


def check_features(blueprint: Blueprint, role: str) -> None:
  """A projector must learn.

  Raises:
    ConfigError: if the objective has no alignment.
  """
  spec = blueprint.learner_spec(role)
  own, features = spec['objective'], spec['network'].get('features', 0)
  if features and not own.get('base', own).get('alignment', 0):
    key = blueprint.learner_key(role, 'network.features')
    raise ConfigError(
      f'config.{key} = {features} has no effect: the objective has no '
      'alignment, as rectified_flow has with alignment = 0.5'
    )


def check_times(blueprint: Blueprint, role: str) -> None:
  """A network without s answers the velocity alone.

  Raises:
    ConfigError: if its objective trains the average velocity from t to s.
  """
  own, name = blueprint.learners[role].model, blueprint.learner_spec(role)
  if own.signature == VELOCITY and blueprint.answers(role) != VELOCITY:
    key = blueprint.learner_key(role, 'network.target_time')
    raise ConfigError(
      f"config.{key} = None must be a form of (t, s), such as 'scaled_gap': "
      f'{name["objective"]["name"]!r} trains u(x_t, t, s), and this network '
      'ignores s'
    )


def check_fakes(blueprint: Blueprint, specs: dict[str, Any]) -> None:
  """The discriminator must judge the samples that the student is trained on.

  Raises:
    ConfigError: naming the first option in which they differ.
  """
  student, critic = specs[STUDENT], specs.get(CRITIC)
  names = student['name'], critic and critic['name']
  if critic is None or names != (ADVERSARIAL, RELATIVISTIC):
    return
  for option, value in student['fakes'].items():
    other = critic['fakes'][option]
    if other != value:
      key = blueprint.learner_key(CRITIC, 'objective')
      raise ConfigError(
        f'config.{key}.fakes.{option} = {other!r} must be {value!r}, as in '
        f'config.{blueprint.key("objective")}: the discriminator would judge '
        'other samples than the student is trained on'
      )


def check_scale(blueprint: Blueprint, spec: Any) -> None:
  """The fakes must have the λ of the base, where the student sees one.

  Raises:
    ConfigError: if they differ, or the student does not take λ.
  """
  if spec['name'] != ADVERSARIAL:
    return
  given, key = spec['fakes']['guidance'], blueprint.key('objective')
  if 'guidance' not in blueprint.learners[STUDENT].model.scalars:
    if given is not None:
      raise ConfigError(
        f'config.{key}.fakes.guidance has no effect: '
        f"config.{blueprint.key('network')}.scalars has no 'guidance'"
      )
    return
  law = spec['base'].get('guidance')
  wanted = law if isinstance(law, Mapping) else None
  if given != wanted:
    raise ConfigError(
      f'config.{key}.fakes.guidance = {given!r} must be {wanted!r}, as in '
      f'config.{key}.base: the student takes λ as a condition'
    )


def check_answer(blueprint: Blueprint, role: str) -> None:
  """Refuses a network that cannot be called as objectives call its role.

  Raises:
    ConfigError: naming the network, and those that would do.
  """
  owner = STUDENT if role == 'ema' else role
  if role not in ANSWERS or owner not in blueprint.roles:
    return
  wanted, given = ANSWERS[role], blueprint.roles[owner].signature
  if given == wanted:
    return
  if owner in blueprint.learners:
    key = blueprint.learner_key(owner, 'network')
    value = blueprint.learner_spec(owner)['network']['name']
  else:
    reference, key = blueprint.reference(owner)
    value = reference.source
  networks = ROOMS[Network]
  fit = [n for n in networks if _signature_of(networks[n]) == wanted]
  fix = f', such as {", ".join(map(repr, fit))}' if fit else ''
  raise ConfigError(
    f'config.{key} = {value!r} must be a network of the kind {wanted!r}{fix}: '
    f'the objective calls it as the {role}, and it is of the kind {given!r}'
  )


def _signature_of(make: Any) -> str:
  return getattr(make, 'signature', AVERAGE)
