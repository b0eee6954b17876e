"""Stand-ins for the programs that the launch scripts call.

They come first on the PATH, record each call, and reply as a test specifies.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """\
#!{python} -IS
import json, os, pathlib, re, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
stdin = sys.stdin.read() if '--filename=-' in call else ''
folder = pathlib.Path({folder!r})
with open(folder / 'calls.jsonl', 'a') as file:
  file.write(json.dumps([call, stdin]) + '\\n')
replies = folder / 'replies.json'
table = json.loads(replies.read_text()) if replies.exists() else []
for pattern, queue in table:
  if re.search(pattern, ' '.join(call)):
    reply = queue.pop(0) if len(queue) > 1 else queue[0]
    replies.write_text(json.dumps(table))
    break
else:
  reply = 0
if isinstance(reply, int):
  sys.exit(reply)
command = [x for x in call if x.startswith('--command=')]
os.environ['COMMAND'] = ''.join(command).removeprefix('--command=')
os.execv('/bin/bash', ['bash', '-c', reply, *call])
"""


@dataclasses.dataclass(frozen=True)
class StandIns:
  """Runs a script of launch/ with stand-ins on its PATH."""

  folder: pathlib.Path

  def add(self, *names: str) -> None:
    (self.folder / 'bin').mkdir(exist_ok=True)
    text = PROGRAM.format(python=sys.executable, folder=str(self.folder))
    for name in names:
      path = self.folder / 'bin' / name
      path.write_text(text)
      path.chmod(0o755)

  def reply(self, *table: tuple[str, list[int | str]]) -> None:
    """Sets pattern -> replies to matching calls, in turn; the last one repeats.

    A number is an exit code, a text is a Bash program. Other calls succeed.
    """
    (self.folder / 'replies.json').write_text(json.dumps(table))

  @property
  def environment(self) -> dict[str, str]:
    home = str(self.folder)
    path = os.pathsep.join([f'{home}/bin', '/usr/bin', '/bin'])
    return {'PATH': path, 'HOME': home, 'TMPDIR': home, 'LC_ALL': 'C'}

  def run(self, script: str, *arguments: str, **environment: str):
    return subprocess.run(
      [ROOT / 'launch' / script, *arguments],
      cwd=self.folder,
      env=self.environment | environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=60,
    )

  @property
  def calls(self) -> list[list[str]]:
    return [call for call, _ in self._recorded()]

  @property
  def stdin(self) -> str:
    return self._recorded()[-1][1]

  def _recorded(self) -> list[tuple[list[str], str]]:
    path = self.folder / 'calls.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


@pytest.fixture
def machine(tmp_path) -> StandIns:
  stand_ins = StandIns(tmp_path)
  stand_ins.add('gcloud', 'kubectl', 'sbatch', 'python', 'tar')
  return stand_ins
