"""The watchdog of a run on several hosts."""

import pathlib
from collections.abc import Mapping

import jax

from flowdistill.config.bind import Spec
from flowdistill.training.watchdog import Watchdog

HOSTS = 'hosts'


def watch(stages: Mapping[str, Spec], workdir: pathlib.Path) -> Watchdog:
  """A watchdog with the longest timeout of the stages."""
  timeout = max(spec['hosts']['timeout'] for spec in stages.values())
  process, count = jax.process_index(), jax.process_count()
  return Watchdog(workdir / HOSTS, process, count, timeout)
