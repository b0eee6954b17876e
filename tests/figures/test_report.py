"""What is published at W/ is complete."""

from flowdistill.figures.report import copy


def test_what_another_process_is_writing_is_not_copied(tmp_path):
  source, folder = tmp_path / 'source', tmp_path / 'folder'
  (source / 'student').mkdir(parents=True)
  (source / 'student' / '1.png').write_bytes(b'whole')
  (source / 'student' / f'.{"0a" * 8}.tmp').write_bytes(b'ha')
  copy(source, folder)
  copied = [path for path in folder.rglob('*') if path.is_file()]
  assert copied == [folder / 'student' / '1.png']
  assert copied[0].read_bytes() == b'whole'
