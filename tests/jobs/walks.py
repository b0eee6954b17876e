"""Runs whose parameters walk randomly, for their power EMAs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jobs import tiny
from training.test_ema_profiles import weights as shares

import flowdistill
from flowdistill.stages import hooks
from flowdistill.stages.assembly import fresh_state
from flowdistill.training.checkpoint import (
  Checkpoints,
)
from flowdistill.workdir.record import write_record

SOURCE = tiny.CONFIGS.parent / 'tests' / 'jobs' / 'averaged.py'
QUIET = 'evaluators={}', 'evaluation.batch_size=32'
STEPS = 60


def flat(params):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


def student(workdir, **which):
  return flowdistill.load(workdir, **which).models['student'].params


def walked(workdir, *overrides, bend=1.0):
  """A run whose parameters walk randomly; returns them, [updates, n]."""
  specs = tiny.stages(SOURCE, *QUIET, *overrides)
  assembly = tiny.assembled(specs['run'], workdir, workdir)
  blueprint = assembly.blueprint
  write_record(workdir, blueprint.spec, {}, blueprint.data.actual)
  state = fresh_state(assembly)
  role = state.roles['student']
  size = len(flat(role.params))
  rng = np.random.default_rng(0)
  path = 5 + bend * np.cumsum(rng.standard_normal((STEPS, size)), 0)
  emas = blueprint.learners['student'].learns.emas

  def tree(x):
    leaves, structure = jax.tree.flatten(role.params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(np.float32(x), ends)
    return jax.tree.unflatten(
      structure,
      [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)],
    )

  saved = Checkpoints(workdir / 'checkpoints', keep=9)
  kept = hooks.open_snapshots(blueprint, 0, assembly.layout)
  act = hooks.Hooks(assembly, saved, kept, {}, None, None, None, None)
  with saved, kept:
    for step in range(1, STEPS + 1):
      due = [do for n, do in act.actions if n and step % n == 0]
      for do in due:
        means = {
          name: tree(shares(ema.sigma_rel, step, STEPS) @ path)
          for name, ema in emas.items()
        }
        own = dataclasses.replace(role, params=tree(path[step - 1]), emas=means)
        now = {'step': np.int32(step), 'roles': {'student': own}}
        now = dataclasses.replace(state, **now)
        do(step, jax.tree.map(jnp.asarray, now))
  return path
