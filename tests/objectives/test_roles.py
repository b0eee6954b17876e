import pytest

from flowdistill.objectives.roles import MissingRole, Roles


def test_a_role_is_an_attribute():
  assert Roles(student=abs).student is abs


@pytest.mark.parametrize('role', ['teacher', 'weak'])
def test_a_missing_role_says_which_key_to_set(role):
  with pytest.raises(AttributeError) as error:
    getattr(Roles(student=abs, ema=abs), role)
  message = str(error.value)
  assert f'nets.{role}' in message
  assert f"'frozen.{role}'" in message
  assert "['ema', 'student']" in message
  assert message.endswith("to a stage ('stage:flow') or to a run's folder")


def test_the_perceptual_role_is_a_file_of_weights():
  with pytest.raises(MissingRole, match=r"'frozen.perceptual' to a file of LP"):
    _ = Roles(student=abs).perceptual
