"""How a network learns: its objective, optimiser and EMAs."""

import functools

from flowdistill.build.data import Data
from flowdistill.config.bind import join, located
from flowdistill.config.sections import STUDENT, Train
from flowdistill.config.stages import Learner
from flowdistill.training import ema
from flowdistill.training.lengths import Length
from flowdistill.training.optim import make_optimiser
from flowdistill.training.roles import Learning


def build_learning(
  name: str, learner: Learner, train: Train, data: Data, where: str
) -> Learning:
  """The learning of a role.

  Args:
    name: of the role.
    learner: what the config says of it.
    train: of the stage.
    data: whose size lengths in epochs refer to.
    where: key of the section that the learner is of.
  """
  batch_size, every = train.batch_size, learner.every
  accumulate = learner.optim.accumulate

  def to_steps(length: Length) -> int:
    return data.to_steps(length, batch_size)

  def to_updates(length: Length) -> int:
    return -(-to_steps(length) // (accumulate * every))

  schedule = learner.optim.schedule(to_updates(train.length), to_updates)
  optimiser = learner.optim.optimiser(schedule)
  with located(join(where, 'optim'), ('clip', 'accumulate')):
    tx = make_optimiser(
      optimiser, clip=learner.optim.clip, accumulate=accumulate
    )
  emas = {
    name: functools.partial(
      ema.advance,
      half_life=spec.half_life.to_steps(batch_size, 1),
      ramp=spec.ramp,
      until=spec.until and to_steps(spec.until),
      warm=spec.warm(to_steps(train.length)),
    )
    for name, spec in learner.ema.items()
  }
  is_student = name == STUDENT
  return Learning(
    loss=learner.objective,
    tx=tx,
    emas=emas,
    dtypes={name: spec.dtype for name, spec in learner.ema.items()},
    ema_role='ema' if is_student else f'{name}_ema',
    prefix='' if is_student else f'{name}/',
  )
