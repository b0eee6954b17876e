"""A folder of ours is replaced as a whole; what others put there stays."""

import multiprocessing
import os
import signal

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.files.generated import MARK, ours
from flowdistill.workdir import swap
from flowdistill.workdir.swap import mark, swapped

# Other tests have started threads of JAX, which the processes here do not use.
FORK = pytest.mark.filterwarnings('ignore:.*fork')


def fill(place, count, text='', *names):
  """What a call does that writes `count` pictures, and other files."""
  with swapped(place, '--out') as folder:
    for i in range(count):
      (folder / f'{i:05d}.png').write_text(text)
    for name in names:
      (folder / name).write_text(text)
    mark(folder, {'.png': count} | dict.fromkeys(names, 1), {'text': text})


def names(place):
  return sorted(path.name for path in place.iterdir())


def pictures(count):
  return [f'{i:05d}.png' for i in range(count)]


def test_fewer_files_take_the_place_of_more(tmp_path):
  out = tmp_path / 'a' / 'out'
  fill(out, 30, 'old', 'samples.npz', 'grid.png')
  fill(out, 10, 'new', 'samples.npz')
  assert names(out) == [*pictures(10), MARK, 'samples.npz']
  assert (out / '00009.png').read_text() == 'new'
  assert names(out.parent) == ['out']
  fill(out, 0)
  assert names(out) == [MARK]


def test_an_empty_folder_is_taken_with_its_modes(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'plain').mkdir()
  fill(tmp_path / 'out', 1)
  modes = {path.stat().st_mode for path in tmp_path.iterdir()}
  assert len(modes) == 1


def test_a_link_is_followed(tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'out').symlink_to(tmp_path / 'there')
  fill(tmp_path / 'out', 2)
  assert (tmp_path / 'out').is_symlink()
  assert names(tmp_path / 'there') == [*pictures(2), MARK]


@pytest.mark.parametrize(
  'name',
  [
    'notes.txt',
    '00002.png',
    '00001.jpg',
    '0001.png',
    'grid.png',
    '.hidden',
    'samples.npz',
    'more/',
    '00000007/',
    '.out.tmp',
  ],
)
@pytest.mark.parametrize('count', [None, 2])
def test_what_others_wrote_is_named_and_stays(tmp_path, name, count):
  """In a folder of ours with two pictures, and in one of the user."""
  out = tmp_path / 'out'
  if count is not None:
    fill(out, count, 'mine')
  (out / name).parent.mkdir(exist_ok=True)
  if name.endswith('/'):
    (out / name).mkdir(parents=True)
  else:
    (out / name).write_text('theirs')
  before = names(out)
  wanted = f'there is {name.strip("/")} in it, which this job has not written'
  with pytest.raises(ConfigError, match=f'^--out={out} must be .*{wanted}'):
    fill(out, 5)
  assert names(out) == before
  assert names(tmp_path) == ['out']


@pytest.mark.parametrize(
  'text', ['', '{', '[]', '{"files": 3}', '{"files": {"notes.txt": "a"}}', '\0']
)
def test_a_damaged_list_makes_nothing_ours(tmp_path, text):
  fill(tmp_path / 'out', 2)
  (tmp_path / 'out' / MARK).write_text(text)
  assert ours(tmp_path / 'out') == {}
  with pytest.raises(ConfigError, match='which this job has not written'):
    fill(tmp_path / 'out', 2)


def test_a_file_and_a_mount_point_are_refused(tmp_path, monkeypatch):
  (tmp_path / 'out').write_text('')
  for place in (tmp_path / 'out', tmp_path / 'out' / 'below'):
    with pytest.raises(ConfigError, match='out must be a folder, and is none'):
      fill(place, 1)
  with pytest.raises(ConfigError, match='^--out=/proc must be no mount point'):
    fill(swap.pathlib.Path('/proc'), 1)
  monkeypatch.setattr(swap.pathlib.Path, 'mkdir', refuse)
  with pytest.raises(PermissionError, match=f'{tmp_path / "other"}'):
    fill(tmp_path / 'other', 1)


@pytest.mark.parametrize('name', ['checkpoints', 'pairs', 'failure'])
def test_what_a_run_reads_is_refused(name, tmp_path):
  stage, place = tmp_path / 'W' / 'flow', tmp_path / 'W' / 'flow' / name
  for out in (place, place / '5', place / '5' / 'state'):
    fill(out, 1)  # no run is there
  (stage / 'config.json').touch()
  message = rf'must not be in {place}, which .* such as {stage}/generated$'
  for out in (place, place / '5'):
    with pytest.raises(ConfigError, match=message):
      fill(out, 1)
  (place / 'config.json').touch()
  fill(place / 'generated', 1)  # it is the folder of a stage of that name


def test_a_folder_above_that_is_renamed_meanwhile_is_named(tmp_path):
  place = tmp_path / 'W' / 'out'
  for again in (False, True):
    with pytest.raises(FileNotFoundError, match=rf"renamed.*: '{place}'$"):
      with swapped(place, '--out'):
        place.parent.rename(tmp_path / f'old{again}')
        if again:
          place.parent.mkdir()
    assert place.parent.exists() == again and not place.exists()


def refuse(path, *_, exist_ok=False, **__):
  """A folder in which nothing may be made."""
  if not exist_ok:
    raise PermissionError(13, 'Permission denied', str(path))


@pytest.mark.parametrize('old', [0, 3])
def test_a_call_that_fails_leaves_what_was_there(tmp_path, old):
  out = tmp_path / 'out'
  if old:
    fill(out, old, 'old')
  for error in (KeyboardInterrupt, SystemExit, OSError):
    with pytest.raises(error), swapped(out, '--out') as folder:
      (folder / '00000.png').write_text('new')
      raise error
  assert names(tmp_path) == (['out'] if old else [])
  assert not old or (out / '00000.png').read_text() == 'old'


def test_folders_of_several_checkpoints_stay(tmp_path):
  out = tmp_path / 'out'
  for step in (500, 1000):
    fill(out / f'{step:08d}', 2)
  fill(out, 3)
  fill(out, 1)
  fill(out / '00000500', 1)
  assert names(out) == ['00000.png', '00000500', '00001000', MARK]
  assert names(out / '00000500') == ['00000.png', MARK]
  assert names(out / '00001000') == [*pictures(2), MARK]


def test_a_file_that_came_meanwhile_stays(tmp_path):
  out = tmp_path / 'out'
  fill(out, 3)
  with swapped(out, '--out') as folder:
    mark(folder, {}, {})
    (out / 'notes.txt').write_text('theirs')
  assert names(out) == [MARK, 'notes.txt']


def killed(place, where):
  """A process that is killed while it writes, or while it swaps."""

  def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

  if where == 'writing':
    with swapped(place, '--out') as folder:
      (folder / '00000.png').write_text('half')
      die()
  if where == 'swapping':
    rename = swap.pathlib.Path.rename

    def once(path, target):
      rename(path, target)
      if path == place:
        die()

    swap.pathlib.Path.rename = once
  if where == 'removing':
    swap.remove = die
  fill(place, 5, 'new')


@FORK
@pytest.mark.parametrize('where', ['writing', 'swapping', 'removing'])
def test_the_next_call_tidies_up_after_one_that_was_killed(tmp_path, where):
  out = tmp_path / 'out'
  fill(out, 3, 'old')
  process = multiprocessing.get_context('fork').Process(
    target=killed, args=(out, where)
  )
  process.start()
  process.join(60)
  assert process.exitcode == -signal.SIGKILL
  assert len(names(tmp_path)) == 2
  if where != 'swapping':
    text = 'new' if where == 'removing' else 'old'
    assert {path.read_text() for path in out.glob('*.png')} == {text}
  fill(out, 1, 'last')
  assert names(tmp_path) == ['out']
  assert names(out) == ['00000.png', MARK]


def often(place, text):
  for count in range(20):
    fill(place, count % 3, text)


@FORK
def test_two_that_write_at_once_leave_the_files_of_one(tmp_path):
  out = tmp_path / 'out'
  context = multiprocessing.get_context('fork')
  both = [context.Process(target=often, args=(out, t)) for t in ('a', 'b')]
  for process in both:
    process.start()
  for process in both:
    process.join(60)
    assert process.exitcode == 0
  assert len({path.read_text() for path in out.glob('*.png')}) == 1
  assert names(out) == [*pictures(1), MARK]
  fill(out, 1)
  assert names(tmp_path) == ['out']
