"""`python -m flowdistill.main --config FILE[:args] --workdir W --job J`.

The only module that knows flags. Overrides of the config are
`--config.KEY=VALUE`, options of a job `--OPTION=VALUE`.
"""

import contextlib
import logging as stdlib_logging
import math
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import jax
from absl import app, flags, logging

from flowdistill.config.bind import ConfigError, suggest
from flowdistill.config.overrides import Override, parse_override
from flowdistill.files.json_reader import DamagedFileError
from flowdistill.jobs import (
  JOBS,
  compare,
  encode,
  evaluate_images,
  index,
  pairs,
  report,
)
from flowdistill.stages.blueprints import Blueprints
from flowdistill.stages.effects import without_idle_defaults
from flowdistill.stages.failure import Halted
from flowdistill.stages.job_options import (
  check_options,
  parse_options,
  path_of,
  types_of,
)
from flowdistill.stages.kinds import check_stages, load_stages
from flowdistill.training.checkpoint import CheckpointError
from flowdistill.training.loop import Interrupted, handled
from flowdistill.training.programs import keep_programs
from flowdistill.training.stdio import keep_streams
from flowdistill.training.watchdog import AGAIN, give_up, on_abort
from flowdistill.workdir.lock import release_all
from flowdistill.workdir.swap import check_parents

# Errors that end in one line: exit code 1 for failures, 2 for mistakes.
FAILURES = (Halted, OSError)
ALL_STAGES = ('train', 'pairs', 'encode', 'compare')  # they may open data
OF_RUNS = {  # what jobs do that are given folders of runs
  'report': report.run,
  'compare': compare.of_runs,
}
SHAPES = ('plan', 'convert', 'bench', 'shard')  # jobs that need no workdir
MISTAKES = (ConfigError, CheckpointError, DamagedFileError, flags.Error)

CONFIG_FLAG = flags.DEFINE_string(
  'config', '', 'FILE.py, or FILE.py:arg,arg; keys as --config.KEY=VALUE.'
)
WORKDIR = flags.DEFINE_string(
  'workdir',
  '',
  'Folder of the run; with --config, plan, convert and bench need none.',
)
JOB = flags.DEFINE_string('job', 'train', f'One of {", ".join(JOBS)}.')
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'One of several hosts: jax.distributed.initialize.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'With --distributed, HOST:PORT of the first host; on a TPU or under SLURM'
  ' none of these three is needed.',
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many hosts.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which one, from 0.')


def main(
  rest: Sequence[tuple[str, str | None]], words: Sequence[str] = ()
) -> None:
  """Reads the config, checks it, and hands over to the job."""
  logging.set_verbosity(max(logging.INFO, logging.get_verbosity()))
  stdlib_logging.getLogger('jax').setLevel(stdlib_logging.WARNING)
  if JOB.value not in JOBS:
    raise ConfigError(
      f'--job={JOB.value} does not exist; {suggest(JOB.value, JOBS)}'
    )
  given = [(n, v) for n, v in rest if not n.startswith('config.')]
  options = parse_options(JOBS, JOB.value, given)
  check_hosts()
  if JOB.value in OF_RUNS and (words or JOB.value not in ALL_STAGES):
    check_no_config(words, bool(CONFIG_FLAG.value) or len(given) < len(rest))
    runs = [*words] or [*filter(None, [WORKDIR.value])]
    OF_RUNS[JOB.value](runs, options)
    return
  if JOB.value == 'index' or getattr(options, 'of', ''):
    what, run = '--of', evaluate_images.run
    if JOB.value == 'index':
      what, run = '--job=index', index.run
    for flag in (CONFIG_FLAG, WORKDIR, DISTRIBUTED):
      if flag.value:
        raise ConfigError(f'--{flag.name} has no effect with {what}')
    if words or len(given) < len(rest):
      raise ConfigError(f'{what} takes no config, and options by their names')
    run(options)
    return
  if words:
    raise ConfigError(f'{words[0]!r} belongs to no option')
  overrides = [parse_override(n, v) for n, v in rest if (n, v) not in given]
  if not WORKDIR.value and not (JOB.value in SHAPES and CONFIG_FLAG.value):
    raise ConfigError('--workdir is missing: the folder of the run')
  workdir = path_of('workdir', WORKDIR.value)
  check_parents(workdir, '--workdir')
  blueprints = read_blueprints(workdir, overrides)
  if JOB.value == 'shard' or (JOB.value == 'convert' and options.from_):
    # A data set alone is needed, or only shapes.
    JOBS[JOB.value].run(blueprints, options)
    return
  if JOB.value == 'encode':
    blueprints = encode.only_encoding(blueprints, options)
  blueprints = without_idle_defaults(blueprints, overrides)
  check_stages(blueprints)
  last = [*(blueprints.trained or blueprints.specs)][-1]
  if JOB.value == 'pairs':
    last = pairs.default_stage(blueprints.specs)
  check_options(options, blueprints, last)
  if DISTRIBUTED.value:
    meet(max(spec['hosts']['timeout'] for spec in blueprints.specs.values()))
  if JOB.value not in ALL_STAGES and not blueprints.trained:
    raise ConfigError(f'--job={JOB.value}: no stage of this config trains')
  JOBS[JOB.value].run(blueprints, options)


def check_no_config(words: Sequence[str], given: bool) -> None:
  """Refuses a config, or another run, beside folders of runs."""
  job = ' '.join([f'--job={JOB.value}', *words])
  if given:
    raise ConfigError(f'--config has no effect with {job}')
  if words and WORKDIR.value:
    raise ConfigError(f'--workdir={WORKDIR.value} has no effect with {job}')


def check_hosts() -> None:
  """Refuses flags of hosts that have no effect, or contradict each other."""
  count, number = NUM_PROCESSES.value, PROCESS_ID.value
  for flag in (COORDINATOR, NUM_PROCESSES, PROCESS_ID):
    if flag.value is not None and not DISTRIBUTED.value:
      raise ConfigError(
        f'--{flag.name}={flag.value} has no effect without --distributed'
      )
  if count is not None and count < 1:
    raise ConfigError(f'--num_processes={count} must be at least 1')
  if number is not None and not 0 <= number < (count or math.inf):
    most = f' and below --num_processes={count}' if count else ''
    raise ConfigError(f'--process_id={number} must be at least 0{most}')


def meet(timeout: float) -> None:
  """Waits for the other hosts; JAX aborts the process if they are missing."""
  missing = f'not every process came to the start within {timeout:g} s'
  # It takes SIGTERM, which would have no effect until `Stop` handles it.
  jax.config.update('jax_enable_preemption_service', False)
  with on_abort(lambda: give_up(missing)):
    jax.distributed.initialize(
      COORDINATOR.value,
      NUM_PROCESSES.value,
      PROCESS_ID.value,
      initialization_timeout=math.ceil(timeout),
      # Longer than that of our watchdog, which names the missing hosts.
      heartbeat_timeout_seconds=math.ceil(2 * timeout + 60),
    )


def read_blueprints(
  workdir: pathlib.Path, overrides: Sequence[Override]
) -> Blueprints:
  """The stages of --config, or else those of the workdir.

  Raises:
    ConfigError: if there is neither.
  """
  if CONFIG_FLAG.value:
    specs = load_stages(CONFIG_FLAG.value, overrides)
    recorded = JOB.value not in ALL_STAGES
    return Blueprints(specs, workdir, recorded=recorded)
  if JOB.value == 'train':
    raise ConfigError('--config is missing: FILE.py or FILE.py:arg,arg')
  if overrides:
    raise ConfigError(f'{overrides[0]} has no effect without --config')
  return Blueprints.of_run(workdir)


def split_arguments(
  arguments: Sequence[str],
) -> tuple[list[str], list[tuple[str, str | None]], list[str]]:
  """Splits flags of absl from overrides, options of jobs, and single words.

  Options may be written as --name=value or --name value.

  Raises:
    ConfigError: for a missing name or value.
  """
  ours, rest, words, waiting = [], [], [], list(arguments)
  while waiting:
    word = waiting.pop(0)
    name, equals, value = word.lstrip('-').partition('=')
    if not word.startswith('-'):
      words.append(word)
      continue
    if not name:
      raise ConfigError(f'{word!r} belongs to no option')
    if _is_switch(name):
      _check_flag(name, value if equals else 'true')
      ours.append(word)
      continue
    if not equals:
      value = None
      if waiting and _is_value(waiting[0], name):
        value = waiting.pop(0)
    if name not in flags.FLAGS:
      rest.append((name, value))
    elif value is None:
      raise ConfigError(f'--{name} must have a value: --{name}=VALUE')
    else:
      _check_flag(name, value)
      ours.append(f'--{name}={value}')
  return ours, rest, words


def _check_flag(name: str, value: str) -> None:
  """Raises ConfigError for a value that is none of a flag."""
  flag = flags.FLAGS[name if name in flags.FLAGS else name.removeprefix('no')]
  try:
    flag.parser.parse(value)
  except ValueError as error:
    kind = 'true or false' if flag.boolean else flag.parser.syntactic_help
    raise ConfigError(f'--{name}={value} must be {kind}') from error


def _is_switch(name: str) -> bool:
  """Whether it is a boolean flag of absl, such as --help."""
  known = [n for n in (name, name.removeprefix('no')) if n in flags.FLAGS]
  return any(flags.FLAGS[n].boolean for n in known)


def _is_value(word: str, name: str) -> bool:
  """Whether a word after --NAME is its value."""
  kinds = [types_of(job).get(name) for job in JOBS.values()]
  if bool in kinds:
    return word.lower() in ('true', 'false')
  return not _is_flag(word)


def _is_flag(word: str) -> bool:
  return word.startswith('-') and word[1:2] not in (*'.0123456789', '')


def start() -> None:
  """The command; errors are one line, with --v=1 also a traceback."""
  keep_streams()
  with contextlib.ExitStack() as stack:
    try:
      keep_programs()
      app.define_help_flags()
      ours, rest, words = split_arguments(sys.argv[1:])
      if not any(word.startswith('--distributed') for word in ours):
        stack.enter_context(handled(interrupt))
      app.run(
        lambda _: main(rest, words),
        argv=[sys.argv[0], *ours],
        flags_parser=flags.FLAGS,
      )
    except (*FAILURES, *MISTAKES) as error:
      end(str(error), 1 if isinstance(error, FAILURES) else 2)
    except SystemExit as error:
      if error.code != AGAIN or jax.distributed.is_initialized():
        raise
      leave_at_once(AGAIN)
    except KeyboardInterrupt as error:
      number = getattr(error, 'number', signal.SIGINT)
      end(f'stopped by {signal.Signals(number).name}', 128 + number)
    except Exception as error:
      plain = type(error) in (RuntimeError, AssertionError)
      if plain and (why := surroundings(error)):
        end(why, 2)
      if not jax.distributed.is_initialized():
        raise
      traceback.print_exc()
      leave(1)


def interrupt(number: int) -> NoReturn:
  """Ends what is done now, as Ctrl-C does."""
  raise Interrupted(number)


def surroundings(error: Exception) -> str:
  """What the machine or the user's account lacks; '' for any other error.

  These errors of pathlib and JAX have no class of their own.
  """
  if str(error).startswith('Could not determine home'):
    return 'the home folder is unknown: set HOME, or give paths without ~'
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as missing:
    return (
      f'JAX_PLATFORMS={os.environ.get("JAX_PLATFORMS", "")} must name devices '
      f'that this machine has, such as cpu. {missing}'
    ).strip()
  return ''


def end(message: str, code: int) -> NoReturn:
  """Prints an error in one line, and exits."""
  if logging.level_debug():
    traceback.print_exc()
  print(f'error: {" ".join(message.splitlines())}', file=sys.stderr)
  leave(code)


def leave(code: int) -> NoReturn:
  """Exits; with several hosts at once, as JAX would wait for the others."""
  if jax.distributed.is_initialized() or code > 128:
    leave_at_once(code)
  sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
  """Exits while devices may still compute, which crashes a normal exit."""
  release_all()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


if __name__ == '__main__':
  start()
