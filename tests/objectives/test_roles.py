import pytest

from flowdistill.objectives.roles import MissingRole, Roles


def message_of(role):
  with pytest.raises(AttributeError) as error:
    getattr(Roles(student=abs, main=abs), role)
  assert isinstance(error.value, MissingRole)
  return str(error.value)


def test_a_role_is_an_attribute():
  assert Roles(student=abs).student is abs


FROZEN = "set 'frozen.{0}' to 'stage:NAME' or a run's folder"


@pytest.mark.parametrize(
  ('role', 'fix'),
  [
    ('teacher', FROZEN),
    ('weak', FROZEN),
    ('critic', FROZEN + ", or train it as 'roles.{0}'"),
    ('discriminator', "set 'roles.{0}' to train it beside the student"),
  ],
)
def test_a_missing_role_says_which_key_to_set(role, fix):
  start = f'this objective asks for nets.{role}, and the config fills only '
  assert message_of(role) == f"{start}['main', 'student']: {fix.format(role)}"


def test_a_role_is_an_item_as_well():
  nets = Roles(student=abs)
  assert nets['student'] is abs
  with pytest.raises(MissingRole, match=r'nets\.critic'):
    nets['critic']


def test_missing_ema_weights_say_which_key_to_set():
  assert message_of('ema').endswith(
    "set 'ema.main' to keep EMA weights of the student"
  )


def test_a_role_of_another_source_says_which():
  assert str(MissingRole('critic', {'b', 'a'}, 'a file')).endswith(
    "fills only ['a', 'b']: set 'frozen.critic' to a file"
  )
