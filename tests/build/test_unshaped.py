"""What no shape tells must be as in the network that another starts from."""

import pytest

from flowdistill.build.unshaped import check_unshaped
from flowdistill.config.bind import ConfigError

SOURCE = "'FLUX'"
FOLDER = {'num_attention_heads': 4, 'axes_dims_rope': [2, 4, 2]}
OF_FOLDER = {
  'name': 'flux',
  'num_attention_heads': 4,
  'axes_dims_rope': (2, 4, 2),
  'dtype': 'x',
}
STAGE = {'name': 'mmdit', 'width': 8, 'heads': 4, 'theta': 100.0}


@pytest.mark.parametrize(
  ('theirs', 'ours'),
  [
    (FOLDER, OF_FOLDER),
    ({}, OF_FOLDER),
    (STAGE, {**STAGE, 'dropout': 0.1}),
    (STAGE, {**STAGE, 'width': 16, 'heads': 2}),
    (STAGE, {**STAGE, 'name': 'dit', 'heads': 2}),
  ],
)
def test_the_same_or_another_network(theirs, ours):
  check_unshaped(theirs, ours, 'network', source=SOURCE)


@pytest.mark.parametrize(
  ('theirs', 'ours', 'name', 'value'),
  [
    (FOLDER, OF_FOLDER, 'num_attention_heads', 2),
    (FOLDER, OF_FOLDER, 'axes_dims_rope', (4, 2, 2)),
    (STAGE, STAGE, 'heads', 2),
    (STAGE, STAGE, 'theta', 10_000.0),
  ],
)
def test_another_function_of_the_same_arrays(theirs, ours, name, value):
  message = rf"^config\.network\.{name} = .* must be .*, as in 'FLUX', which"
  with pytest.raises(ConfigError, match=message):
    check_unshaped(theirs, {**ours, name: value}, 'network', source=SOURCE)
