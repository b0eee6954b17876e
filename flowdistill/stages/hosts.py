"""The hosts of a run, which watch each other."""

import pathlib
from collections.abc import Mapping

import jax

from flowdistill.config.bind import Spec
from flowdistill.training.watchdog import Watchdog

HOSTS = 'hosts'


def watch(stages: Mapping[str, Spec], workdir: pathlib.Path) -> Watchdog:
  """Watches the other hosts, if there are any."""
  timeout = max(spec['hosts']['timeout'] for spec in stages.values())
  process, count = jax.process_index(), jax.process_count()
  return Watchdog(workdir / HOSTS, process, count, timeout)
