"""How a network learns: its objective, optimiser and EMAs."""

import zlib
from collections.abc import Mapping

from flowdistill.build.data import Data
from flowdistill.config.bind import Spec, join, located
from flowdistill.config.sections import STUDENT, Train
from flowdistill.config.stages import Learner
from flowdistill.objectives import INSTANT
from flowdistill.training.lengths import Length
from flowdistill.training.optim import make_optimiser
from flowdistill.training.roles import AVERAGE, VELOCITY, Learning


def build_learning(
  name: str, learner: Learner, train: Train, data: Data, where: str
) -> Learning:
  """The learning of a role whose section of the config is `where`."""
  batch_size, every = train.batch_size, learner.every
  accumulate = learner.optim.accumulate

  def to_calls(length: Length) -> int:
    return -(-data.to_steps(length, batch_size) // every)

  start = start_of(learner, train, data, where)

  def to_updates(length: Length) -> int:
    return -(-data.to_steps(length, batch_size) // (accumulate * every))

  with located(join(where, 'train')):
    total = data.to_steps(train.length, batch_size) - start
  calls, updates = -(-total // every), -(-total // (accumulate * every))
  schedule = learner.optim.schedule(updates, to_updates)
  optimiser = learner.optim.optimiser(schedule)
  with located(join(where, 'optim'), ('clip', 'accumulate')):
    tx = make_optimiser(
      optimiser,
      clip=learner.optim.clip,
      accumulate=accumulate,
      only=learner.optim.only,
      state_dtype=learner.optim.state_dtype,
    )
  emas = {key: kind(calls, to_calls) for key, kind in learner.ema.items()}
  if name == STUDENT:
    return Learning(learner.objective, tx, emas)
  return Learning(
    learner.objective, tx, emas, f'{name}_ema', f'{name}/', salt_of(name)
  )


def answer_of(objective: Spec) -> str:
  """What a network answers that a resolved objective has trained.

  'velocity' if the objective, or its times, call it at s = t alone.
  """
  own = objective.get('base', objective)
  times = own.get('times')
  instant = isinstance(times, Mapping) and times.get('instant') == 1
  return VELOCITY if own['name'] in INSTANT or instant else AVERAGE


def start_of(learner: Learner, train: Train, data: Data, where: str) -> int:
  """Steps before a role begins to learn, fewer than the stage has.

  Raises:
    ConfigError: if the stage ends before.
  """
  with located(where, ('start',)):
    start = data.to_steps(learner.start, train.batch_size)
    if start and start >= data.to_steps(train.length, train.batch_size):
      raise ValueError(
        f'start = {learner.start} must be before the end of the stage, '
        f'{train.length}'
      )
  return start


def salt_of(name: str) -> int:
  """The number that is folded into a role's random keys; 0 for the student."""
  return 0 if name == STUDENT else zlib.crc32(name.encode()) % 2**31
