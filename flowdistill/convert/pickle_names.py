"""The names that a pickle may have: those of data, never of code.

Sources: `torch._weights_only_unpickler` and `torch._utils` of PyTorch 2.13.
"""

import re

from flowdistill.convert.pickle_machine import Named

LONGEST_NAME = 100

KNOWN = {
  'torch': r'Size|Tensor|device|[A-Z]\w*(Storage|Tensor)|half|double|cfloat'
  r'|[a-z]{0,5}(bool|int|float|complex|bits)\w*|per_(tensor|channel)_\w+'
  r'|long|short|cdouble|strided|sparse_\w+|contiguous_format|channels_last\w*',
  'torch.storage': r'_?(Untyped|Typed)Storage|_load_from_bytes',
  'torch.nn.parameter': r'Parameter|Buffer',
  'torch.serialization': r'_get_layout',
  'torch.nn.modules.container': r'Module(Dict|List)|Sequential',
  'torch._tensor': r'_rebuild_from_type_v2',
  'torch._utils': r'_rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?|qtensor'
  r'|sparse_tensor|meta_tensor_no_storage|wrapper_subclass'
  r'|device_tensor_from_(numpy|cpu_tensor))',
  'builtins': r'set|frozenset|bytearray|bytes|complex|slice|x?range|list|dict'
  r'|tuple|int|float|str|bool|object',
  'collections': r'OrderedDict|Counter|defaultdict|deque',
  'copyreg': r'_reconstructor',
  '_codecs': r'encode',
  'numpy': r'dtype|ndarray|bool_?|u?int\d+|float\d+|complex\d+',
  'numpy.dtypes': r'\w+DType',
  'numpy.core.multiarray': r'_reconstruct|scalar',
  'numpy._core.multiarray': r'_reconstruct|scalar',
  'numpy.core.numeric': r'_frombuffer',
  'numpy._core.numeric': r'_frombuffer',
  # Snapshots of EDM2 and other networks of NVIDIA.
  'torch_utils.persistence': r'_reconstruct_persistent_obj',
  'dnnlib.util': r'EasyDict',
  # Records of options, as checkpoints have them beside the weights.
  'argparse': r'Namespace',
  'types': r'SimpleNamespace',
  'pathlib': r'(Pure)?(Posix|Windows)?Path',
  'datetime': r'date|datetime|time|timedelta|timezone',
  'ml_collections.config_dict.config_dict': r'(Frozen)?ConfigDict',
  'pytorch_lightning.utilities.parsing': r'AttributeDict',
  'lightning.pytorch.utilities.parsing': r'AttributeDict',
  'lightning.fabric.utilities.data': r'AttributeDict',
}
"""Module -> the names in it that may appear; none is looked up."""
OLD = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}  # Python 2
CONTAINERS = (
  'torch.nn.modules.container.ModuleDict',
  'torch.nn.modules.container.ModuleList',
  'torch.nn.modules.container.Sequential',
)
BUILT = (
  'numpy.dtype',
  'numpy.core.multiarray._reconstruct',
  'numpy._core.multiarray._reconstruct',
  *CONTAINERS,
)
"""Calls whose result gets its content afterwards; see `numpy_arrays.py` and
`modules.py`."""
TABLES = ('OrderedDict', 'Counter', 'defaultdict', 'dict', 'EasyDict')


def known(module: str, name: str) -> Named:
  """The name of a module's object; ValueError if it is not in KNOWN."""
  if len(name) > LONGEST_NAME:  # it may be matched for each opcode
    raise ValueError('it names an object by more than 100 characters')
  module = OLD.get(module, module)
  if not re.fullmatch(KNOWN.get(module, '(?!)'), name):
    raise ValueError(
      f'it names {module[:LONGEST_NAME]}.{name}, which may be code, and is not '
      'executed; where you trust the file, save its state dict alone by PyTorch'
    )
  return Named(f'{module}.{name}')
