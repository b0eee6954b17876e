"""What configs say of their data, without the data."""

import pytest
from jobs import tiny

from flowdistill.build.declared import declared


def record_of(*overrides, source=tiny.TOY):
  spec = next(iter(tiny.stages(source, *overrides).values()))
  return declared(spec['dataset'])


@pytest.mark.parametrize(
  ('arg', 'shape', 'classes'),
  [
    ('cifar10', (32, 32, 3), 0),
    ('ffhq64', (64, 64, 3), 0),
    ('imagenet64', (64, 64, 3), 1000),
  ],
)
def test_the_configs_of_slimflow_say_it(arg, shape, classes):
  record = record_of(source=f'{tiny.CONFIGS / "slimflow/flow.py"}:{arg}')
  assert (record.spec.shape, record.spec.num_classes) == (shape, classes)
  assert record.size is None


@pytest.mark.parametrize(
  ('options', 'expected'),
  [
    ("'builder': 'mnist'", ((28, 28, 1), 10)),
    ("'builder': 'mnist:3.0.1', 'size': 32, 'channels': 3", ((32, 32, 3), 10)),
    ("'builder': 'cifar100', 'by_class': False", ((32, 32, 3), 0)),
    ("'builder': 'imagenet2012'", None),
    ("'builder': 'flowers'", None),
    ("'builder': 'cifar100', 'label': 'coarse_label'", None),
  ],
)
def test_data_sets_of_tfds(options, expected):
  record = record_of(f"dataset={{'name': 'tfds', {options}}}")
  found = record and (record.spec.shape, record.spec.num_classes)
  assert found == expected


def test_what_must_be_opened():
  assert record_of() is None  # a toy
  path = "'name': 'folder', 'path': '/nowhere', 'size': 16, 'channels': 1"
  assert record_of(f'dataset={{{path}}}').spec.shape == (16, 16, 1)
  assert record_of(f"dataset={{{path}, 'by_class': True}}") is None
