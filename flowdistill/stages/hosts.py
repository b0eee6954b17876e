"""The watchdog of a run on several hosts."""

import pathlib
from collections.abc import Mapping
from typing import NoReturn

import jax

from flowdistill.config.bind import Spec
from flowdistill.training.watchdog import Watchdog, give_up
from flowdistill.workdir.lock import release_all

HOSTS = 'hosts'


def watch(stages: Mapping[str, Spec], workdir: pathlib.Path) -> Watchdog:
  """A watchdog with the longest timeout of the stages."""
  timeout = max(spec['hosts']['timeout'] for spec in stages.values())
  process, count = jax.process_index(), jax.process_count()
  return Watchdog(
    workdir / HOSTS, process, count, timeout, on_missing=release_and_give_up
  )


def release_and_give_up(message: str, code: int) -> NoReturn:
  """Ends this process at once, without leaving its locks."""
  release_all()
  give_up(message, code)
