"""The kind of a stage."""

import pytest

from flowdistill.config.bind import ConfigError
from flowdistill.config.kinds import kind_of

HUGE = [
  pytest.param(16**5000, id='of thousands of digits'),
  pytest.param({'name': [16**5000]}, id='with one of thousands of digits'),
]


@pytest.mark.parametrize('job', ['trian', 7, *HUGE, None, ['train']])
def test_one_that_does_not_exist_is_named(job):
  with pytest.raises(ConfigError, match='config.flow.job = .* does not exist'):
    kind_of({'job': job}, {'train': 1, 'pairs': 2}, 'flow')
