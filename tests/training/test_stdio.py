"""Streams that take what they can, and lose the rest."""

import os

import pytest

from flowdistill.training.stdio import lasting


def written(encoding, text):
  """What arrives in a pipe."""
  out, into = os.pipe()
  with os.fdopen(into, 'w', encoding=encoding) as stream:
    wrapped = lasting(stream)
    wrapped.write(text)
    wrapped.flush()
  with os.fdopen(out, 'rb') as arrived:
    return arrived.read()


@pytest.mark.parametrize(
  ('encoding', 'expected'),
  [
    ('utf-8', 'σ → \\udcff\n'.encode()),
    ('ascii', b'\\u03c3 \\u2192 \\udcff\n'),
  ],
)
def test_a_letter_that_an_encoding_lacks_is_spelled(encoding, expected):
  assert written(encoding, 'σ → \udcff\n') == expected


def test_a_pipe_without_a_reader_and_a_full_disk():
  out, into = os.pipe()
  os.close(out)
  for target in (into, os.open('/dev/full', os.O_WRONLY)):
    with os.fdopen(target, 'w') as stream:
      wrapped = lasting(stream)
      assert wrapped.write('x' * 10**6) == 10**6
      wrapped.flush()
      assert wrapped.fileno() == stream.fileno() and not wrapped.isatty()


def test_all_of_a_long_text_arrives(tmp_path):
  text = ''.join(f'{i}\n' for i in range(10**5))
  with (tmp_path / 'out').open('w') as stream:
    wrapped = lasting(stream)
    wrapped.write(text)
    wrapped.flush()
  assert (tmp_path / 'out').read_text() == text


def test_a_descriptor_that_is_closed_meanwhile(tmp_path):
  stream = (tmp_path / 'out').open('w')
  wrapped = lasting(stream)
  stream.close()
  wrapped.write('lost')
  wrapped.flush()
