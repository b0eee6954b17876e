"""Shards by HTTP from a server that stalls, answers 503, and breaks off."""

import contextlib
import http.server
import itertools
import re
import threading
import time

import numpy as np
import pytest
from datasets.tiny_shards import Numbers, write_shards
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from flowdistill.datasets import retried
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.retried import Retried
from flowdistill.datasets.webdataset import webdataset

RANGE = re.compile(r'bytes=(\d+)-(\d*)')


class Handler(http.server.BaseHTTPRequestHandler):
  """GET /FAULT/NAME: the file NAME, with a fault the first times."""

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.answer(body=False)

  def do_GET(self):
    with contextlib.suppress(ConnectionError):  # who asked has left
      self.answer(body=True)

  def answer(self, body):
    _, fault, name = self.path.split('/')
    server = self.server
    server.asked.append((self.command, self.path))
    data = server.files.get(name)
    again = server.faults.get(fault, 0) > 0
    if fault == 'redirect':
      self.send_response(302)
      self.send_header('Location', server.target)
      self.end_headers()
      return
    if data is None or (fault == '503' and again and body):
      server.faults[fault] = server.faults.get(fault, 0) - 1
      self.send_error(404 if data is None else 503)
      return
    found = RANGE.match(self.headers.get('Range', ''))
    whole = len(data)
    if found and fault != 'whole':
      first, last = int(found[1]), min(int(found[2] or whole), whole - 1)
      data = data[first : last + 1]
      self.send_response(206)
      self.send_header('Content-Range', f'bytes {first}-{last}/{whole}')
    else:
      self.send_response(200)
    if fault != 'whole':
      self.send_header('Accept-Ranges', 'bytes')
    self.send_header('Content-Length', f'{len(data)}')
    self.end_headers()
    if not body:
      return
    if again:
      server.faults[fault] -= 1
      self.wfile.write(data[: len(data) // 3])
      self.wfile.flush()
      if fault == 'stall':
        time.sleep(3)
      self.close_connection = True
      return
    self.wfile.write(data)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
  monkeypatch.setattr(retried, 'STALL', 1.0)
  monkeypatch.setattr(retried, 'BLOCK', 4096)


@pytest.fixture
def server(tmp_path):
  """A server of the shards a-0.tar, a-1.tar and a-2.tar, of 12 samples."""
  paths = write_shards(tmp_path, [5, 4, 3])
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.daemon_threads = True
  server.files = {path.name: path.read_bytes() for path in paths}
  server.faults, server.asked, server.target = {}, [], ''
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  server.url = f'http://127.0.0.1:{server.server_address[1]}'
  yield server
  server.shutdown()
  server.server_close()


def stream(path, **options):
  source = webdataset(path=path, size=8, buffer=5, **options)
  return source.encoded_by(Numbers())


def read(source, count, **options):
  batches = make_batches(source, batch_size=4, seed=0, **options)
  return np.stack([b['number'] for b in itertools.islice(batches, count)])


@pytest.mark.parametrize(
  ('fault', 'times'),
  [('none', 0), ('503', 2), ('stall', 1), ('cut', 2), ('whole', 0)],
)
def test_faults_of_a_server_lose_nothing_and_repeat_nothing(
  server, tmp_path, fault, times, caplog
):
  """The same samples as from the files, at the start and in the middle."""
  here = read(stream(str(tmp_path)), 9)
  server.faults[fault] = times
  there = stream(f'{server.url}/{fault}/a-{{0..2}}.tar')
  np.testing.assert_array_equal(read(there, 9), here)
  server.faults[fault] = times
  np.testing.assert_array_equal(read(there, 3, start=5), here[5:8])
  assert not times or 'is tried again' in caplog.text


def test_each_file_that_is_tried_again_is_named_once(server, caplog):
  server.faults['cut'] = 3
  retried._said.clear()
  read(stream(f'{server.url}/cut/a-0.tar'), 9)
  assert caplog.text.count(f'{server.url}/cut/a-0.tar failed at byte') == 1


def test_a_server_that_stays_broken_ends_the_run(server, monkeypatch):
  monkeypatch.setattr(retried, 'TRIES', 3)
  server.faults['503'] = 1000
  source = stream(f'{server.url}/503/a-0.tar')
  start = time.monotonic()
  with pytest.raises(OSError, match='at byte 0, after 3 tries: .*503'):
    read(source, 1)
  assert time.monotonic() - start > 3  # 1 s, and 2 s


def test_what_is_not_there_is_refused_at_once(server):
  with pytest.raises(ValueError, match='none.tar cannot be read: .*404'):
    read(stream(f'{server.url}/none/none.tar'), 1)
  assert len(server.asked) == 2  # HEAD and GET, once


def test_a_redirect_to_a_file_is_refused(server, tmp_path):
  server.target = f'file://{tmp_path}/a-0.tar'
  with pytest.raises(ValueError, match='cannot be read: .*redirect'):
    read(stream(f'{server.url}/redirect/a-0.tar'), 1)


def test_a_redirect_to_another_server_is_followed(server):
  server.target = f'{server.url}/none/a-0.tar'
  found = read(stream(f'{server.url}/redirect/a-0.tar'), 5)
  assert {*found.ravel()} == {*range(5)}


def test_a_shard_that_is_shorter_than_its_headers_say_is_cut(server):
  server.files['a-0.tar'] = server.files['a-0.tar'][:5000]
  with pytest.raises(ValueError, match="1 of 1 shards .*'a-0.tar' .it is cut"):
    read(stream(f'{server.url}/none/a-0.tar'), 9)


def test_an_index_needs_files(server):
  with pytest.raises(ValueError, match='index = True: .* must be local'):
    stream(f'{server.url}/none/a-0.tar', index=True)


class Bucket(MemoryFileSystem):
  """Stands for Google's, as there is no bucket here."""

  protocol = 'gs'
  store = {}  # noqa: RUF012

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(path.removeprefix('gs:/'))


def test_gs_is_read_by_fsspec(server, tmp_path, monkeypatch):
  monkeypatch.setitem(_registry, 'gs', Bucket)
  for name, data in server.files.items():
    Bucket().pipe(f'/bucket/{name}', data)
  here = read(stream(str(tmp_path)), 9)
  there = read(stream('gs://bucket/a-{0..2}.tar'), 9)
  np.testing.assert_array_equal(there, here)


class Flaky:
  """Bytes that break off once in every 700, and are read 100 at a time."""

  def __init__(self, data):
    self.data, self.failed, self.opened = data, set(), 0

  def open(self, ranges):
    assert ranges
    self.opened += 1
    self.place = 0
    return self

  def read(self, size):
    if (part := self.place // 700) and part not in self.failed:
      self.failed.add(part)
      raise ConnectionError('reset')
    part = self.data[self.place : self.place + min(size, 100)]
    self.place += len(part)
    return part

  def close(self):
    pass


def test_any_reads_and_seeks_are_those_of_the_file():
  data = np.random.default_rng(0).bytes(5000)
  rng = np.random.default_rng(1)
  for _ in range(20):
    flaky = Flaky(data)
    file, place = Retried('it', flaky.open, wait=0), 0
    while place < len(data):
      size, gap = rng.integers(1, 900, 2).tolist()
      assert file.read(size) == data[place : place + size]
      place = min(place + size, len(data)) + gap
      file.seek(place)
      assert file.tell() == place
    assert flaky.opened > 1
    assert file.read(3) == b''


def test_it_never_goes_back():
  file = Retried('it', Flaky(b'abcdef').open)
  assert file.read(3) == b'abc'
  with pytest.raises(ValueError, match='it is only read forwards'):
    file.seek(1)
