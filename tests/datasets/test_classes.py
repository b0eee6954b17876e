"""Class names and labels, and their order."""

import numpy as np
import PIL.Image
import pytest

from flowdistill.datasets.classes import labels_of
from flowdistill.datasets.folder import folder


def classes(*names, **options):
  return labels_of([f'{name}/x.png' for name in names], **options)


@pytest.mark.parametrize(
  ('order', 'expected'),
  [
    ('text', ['1', '10', '2', 'a10b', 'a2', 'b']),
    ('natural', ['1', '2', '10', 'a2', 'a10b', 'b']),
  ],
)
def test_the_order_of_classes(order, expected):
  labels, found = classes('b', '10', 'a10b', '2', 'a2', '1', order=order)
  assert found == expected
  assert labels.dtype == np.int32
  given = ['b', '10', 'a10b', '2', 'a2', '1']
  assert [found[label] for label in labels] == given


def test_natural_order_is_one_order():
  names = ['a', '01', '1', 'a1', 'a01', 'a1b', '9' * 5000, '٣', '1.10', '1.9']
  _, found = classes(*names, order='natural')
  _, again = classes(*reversed(names), order='natural')
  assert found == again
  assert found[-2:] != ['1.10', '1.9']
  assert found.index('1.9') < found.index('1.10')


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (['t/a/1', 't/b/1'], ['a', 'b']),
    (['s/t/a/1', 's/t/b/1'], ['a', 'b']),
    (['t/a/1', 'u/a/1'], ['t', 'u']),
    (['t/a/1', 't/2'], ['t']),
    (['t/a/1', 't/a/2'], ['t']),
    (['t/1', 't/2'], ['t']),
    (['/t/a/1', '/t/b/1'], ['a', 'b']),
  ],
)
def test_single_folders_around_several_are_looked_through(names, expected):
  assert labels_of(names, through=True)[1] == expected


def test_the_order_is_an_option_that_the_classes_record(tmp_path, caplog):
  for k in range(11):
    (tmp_path / str(k)).mkdir()
    PIL.Image.new('RGB', (2, 2)).save(tmp_path / str(k) / 'x.png')
  options = {'path': str(tmp_path), 'size': 2, 'by_class': True}
  with caplog.at_level('INFO', logger='absl'):
    text = folder(**options)
  assert "class_order = 'natural' would sort" in caplog.text
  assert text.spec.classes[:3] == ('0', '1', '10')
  natural = folder(**options, class_order='natural')
  assert natural.spec.classes == tuple(map(str, range(11)))
  for source in (text, natural):
    label = source.conditions(np.arange(11))['label']
    for name, k in zip(source.encoded.names, label, strict=True):
      assert name.split('/')[0] == source.spec.classes[k]
  with pytest.raises(ValueError, match="class_order = 'x' must be 'text' or"):
    folder(**options, class_order='x')
