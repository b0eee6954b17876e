"""Paths of tar shards: braces, folders, URLs, and what is refused."""

import pytest

from flowdistill.datasets.shard_paths import is_local, shard_paths, title_of


def test_braces_and_folders_name_shards_in_order(tmp_path):
  for k in range(12):
    (tmp_path / f'a-{k:02d}.tar').touch()
  (tmp_path / 'a.txt').touch()
  names = [str(tmp_path / f'a-{k:02d}.tar') for k in range(12)]
  assert [*shard_paths(str(tmp_path))] == names
  assert [*shard_paths(f'{tmp_path}/a-{{00..11}}.tar')] == names
  assert [*shard_paths(f'{tmp_path}/a-{{00,03}}.tar')] == [names[0], names[3]]
  assert shard_paths('gs://b/{x,y}.tar') == ('gs://b/x.tar', 'gs://b/y.tar')


def test_titles_are_short():
  assert title_of('https://host/a/b-0.tar') == 'b-0.tar'
  assert title_of('pipe:cat a/b.tar') == 'pipe:cat a/b.tar'
  assert [is_local(x) for x in ('/a.tar', 'gs://a.tar', 'pipe:ls')] == [
    True,
    False,
    False,
  ]


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('', "path = '' must name tar shards"),
    ('none.tar', 'there is no shard .*none.tar'),
    ('a-{0..3.tar', 'unbalanced braces'),
    ('gs://b/{x,x}.tar', "has 'gs://b/x.tar' twice"),
    ('gs://b/a-{0..9999999999}.tar', 'at most 1,000,000 shards'),
    ('gs://b/{0..9999}{0..9999}.tar', 'at most 1,000,000 shards'),
    ('http://h/a.tar.gz', 'must be an uncompressed .tar'),
    ('ftp://h/a.tar', 'must be a file, or begin with http://'),
    ('file:///etc/passwd', 'must be a file, or begin with'),
    ('pipe:rm -r x', 'would run a command; set commands = True'),
    ('{a,pipe:rm -r x}', 'would run a command'),
  ],
)
def test_bad_paths_are_refused(path, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'a').touch()
  with pytest.raises(ValueError, match=message):
    shard_paths(path)


def test_a_folder_without_shards_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'has no \.tar in'):
    shard_paths(str(tmp_path))
