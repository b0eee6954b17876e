"""No module runs code from a file, or writes to a path from an archive.

The first test lists all offenders: calls that load pickles, pass a string to a
shell, or unpack an archive without a filter for its paths.
"""

import ast
import pathlib

import numpy as np
import pytest
from jobs import tiny

from flowdistill.jobs import replay
from flowdistill.networks import digit_classifier
from flowdistill.stages import failure

ROOT = pathlib.Path(__file__).parents[1]
PICKLES = {'pickle', '_pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib'}
PICKLES |= {'shelve', 'marshal'}
SHELLS = {'os.system', 'os.popen', 'subprocess.getoutput'}
SHELLS |= {'subprocess.getstatusoutput', 'asyncio.create_subprocess_shell'}
CODE = {'eval', 'exec'}
MAY_RUN = {
  'flowdistill/config/files.py': {'exec'},  # a config is a Python file
  # a shard `pipe:COMMAND`, if `commands` permits it
  'flowdistill/datasets/command_output.py': {'subprocess.Popen'},
  # the name of an error, which loads nothing
  'flowdistill/text_encoders/folder.py': {'pickle.UnpicklingError'},
}
SAFE = {  # a call -> the keyword that makes it safe, and its value
  'torch.load': ('weights_only', True),
  'shutil.unpack_archive': ('filter', 'data'),
}
UNSAFE = ('shell', 'allow_pickle')  # keywords that must be False


def dangers(tree):
  """'line: what' for every dangerous import or call of a module."""
  names = aliases(tree)
  archives = any(name.split('.')[0] == 'tarfile' for name in names.values())
  for node in ast.walk(tree):
    if isinstance(node, ast.Import | ast.ImportFrom):
      for name in origin(node):
        if name.split('.')[0] in PICKLES:
          yield f'{node.lineno}: {name}'
    if isinstance(node, ast.Call):
      name = full_name(node.func, names)
      if is_dangerous(name, keywords(node), archives):
        yield f'{node.lineno}: {name}'


def is_dangerous(name, given, archives):
  if name.split('.')[-1] in ('extract', 'extractall'):
    return archives and given.get('filter') != 'data'
  if any(given.get(key, False) is not False for key in UNSAFE):
    return True
  key, value = SAFE.get(name, (None, None))
  return name in SHELLS | CODE or (key and given.get(key) != value)


def keywords(call):
  """Name -> its literal; `any` stands for a computed value."""
  return {word.arg: getattr(word.value, 'value', any) for word in call.keywords}


def origin(node):
  if isinstance(node, ast.Import):
    return [alias.name for alias in node.names]
  return [f'{node.module}.{alias.name}' for alias in node.names]


def aliases(tree):
  """Name in a module -> what was imported under it."""
  return {
    alias.asname or alias.name.split('.')[0]: name
    if alias.asname or isinstance(node, ast.ImportFrom)
    else name.split('.')[0]
    for node in ast.walk(tree)
    if isinstance(node, ast.Import | ast.ImportFrom)
    for alias, name in zip(node.names, origin(node), strict=True)
  }


def full_name(function, names):
  """'numpy.load' of `np.load`."""
  first, *rest = ast.unparse(function).split('.')
  return '.'.join([names.get(first, first), *rest])


def test_no_module_is_dangerous():
  found = {}
  for path in sorted((ROOT / 'flowdistill').rglob('*.py')):
    name = path.relative_to(ROOT).as_posix()
    calls = list(dangers(ast.parse(path.read_text('utf-8'))))
    allowed = MAY_RUN.get(name, set())
    found[name] = [x for x in calls if x.split(': ')[1] not in allowed]
  assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
  'code',
  [
    'import pickle',
    'from pickle import loads as read',
    'import joblib.numpy_pickle as j',
    'import torch\ntorch.load(f)',
    'import torch as t\nt.load(f, weights_only=False)',
    'from torch import load\nload(f)',
    'import numpy as np\nnp.load(f, allow_pickle=True)',
    'import numpy as np\nnp.load(f, allow_pickle=trusted)',
    'import shutil\nshutil.unpack_archive(f, d)',
    "import shutil\nshutil.unpack_archive(f, d, filter='fully_trusted')",
    'import tarfile\ntarfile.open(f).extractall(d)',
    'import tarfile\nwith tarfile.open(f) as t:\n  t.extract(m, d)',
    'import subprocess\nsubprocess.run(line, shell=True)',
    'import subprocess as s\ns.Popen(line, shell=given)',
    'import os\nos.system(line)',
    'from os import popen\npopen(line)',
    'eval(text)',
    'exec(text)',
  ],
)
def test_what_is_dangerous_is_found(code):
  assert len(list(dangers(ast.parse(code)))) == 1


@pytest.mark.parametrize(
  'code',
  [
    'import torch\ntorch.load(f, weights_only=True)',
    'import numpy as np\nnp.load(f)\nnp.load(f, allow_pickle=False)',
    "import shutil\nshutil.unpack_archive(f, d, filter='data')",
    "import tarfile\ntarfile.open(f).extractall(d, filter='data')",
    'import zipfile\nzipfile.ZipFile(f).extractall(d)',
    'import re\nre.search(p, s)\nfeatures.extract(x)',
    'import subprocess\nsubprocess.run([a, b], shell=False)',
    'model.eval()\nrun.system(x)',
  ],
)
def test_what_is_not_is_left(code):
  assert list(dangers(ast.parse(code))) == []


class Touches:
  """An object that creates a file when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


@pytest.fixture
def pickled(tmp_path):
  """An array that unpickles an object which leaves a file `harm`."""
  return np.array([Touches(tmp_path / 'harm')], object)


def test_the_weights_of_the_classifier_are_never_unpickled(
  tmp_path, monkeypatch, pickled
):
  whole = dict(np.load(digit_classifier.WEIGHTS))
  np.savez(tmp_path / 'weights.npz', **dict.fromkeys(whole, pickled))
  monkeypatch.setattr(digit_classifier, 'WEIGHTS', tmp_path / 'weights.npz')
  with pytest.raises(ValueError, match='allow_pickle=False'):
    digit_classifier.load_digit_classifier()
  assert not (tmp_path / 'harm').exists()


def test_the_batch_of_a_failed_step_is_never_unpickled(tmp_path, pickled):
  override = 'optim.schedule.learning_rate=1e38'
  with pytest.raises(failure.Halted, match='the first that is not finite is'):
    tiny.train_here(tmp_path, tiny.TOY, override)
  (batch,) = tmp_path.rglob('batch.npz')
  np.savez(batch, x0=pickled)
  with pytest.raises(ValueError, match='allow_pickle=False'):
    stages = tiny.stages(tiny.TOY, override)
    tiny.run(replay, stages, tmp_path, replay.Options())
  assert not (tmp_path / 'harm').exists()
