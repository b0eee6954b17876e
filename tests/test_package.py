"""House rules that hold in every module, and what the package ships.

Who may import whom is checked by import-linter (pyproject.toml); here is what
it cannot say. Each test lists all offenders.
"""

import ast
import os
import pathlib
import re
import runpy
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
import setuptools

ROOT = pathlib.Path(__file__).parents[1]
TREES = {
  path.relative_to(ROOT).as_posix(): ast.parse(path.read_text('utf-8'))
  for path in sorted((ROOT / 'flowdistill').rglob('*.py'))
}
MESH = re.compile(
  r'jax\.sharding\.(?!(SingleDevice)?Sharding\b)'
  r'|jax\.(make_mesh|set_mesh|shard_map|NamedSharding|P|Mesh)\b'
  r'|jax\.experimental\.(mesh_utils|shard_map)\b'
)
AGAINST_TORCH = (
  'flowdistill/against_torch/'  # imported by --against=torch alone
)
OF_TORCH = {  # with what comes by the extra `torch`
  'flowdistill/convert/diffusers_models.py',
  'flowdistill/convert/flow_maps/flow_map_transformer.py',
  'flowdistill/convert/flow_maps/pipeline.py',
  'flowdistill/text_encoders/internvl3.py',
  'flowdistill/text_encoders/queried_model.py',
  'flowdistill/text_encoders/torch_models.py',
}
FLAGS = re.compile(r'(absl\.(flags|app)|ml_collections\.config_flags)\b')


@pytest.fixture(scope='module')
def metadata():
  """The arguments that setup.py gives to setuptools."""
  given = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    patch.setattr(setuptools, 'setup', lambda **kwargs: given.update(kwargs))
    runpy.run_path('setup.py')
  return given


def test_every_module_has_a_docstring():
  assert [n for n, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_modules_are_named_after_their_noun():
  vague = {'utils', 'util', 'helpers', 'common', 'base', 'misc'}
  parts = {n: set(n.removesuffix('.py').split('/')) for n in TREES}
  assert [n for n in TREES if vague & parts[n]] == []


def test_public_functions_are_annotated():
  bare = [
    f'{name}:{function.lineno} {function.name}: {missing}'
    for name, tree in TREES.items()
    for function in public_functions(tree)
    if (missing := unannotated(function))
  ]
  assert bare == []


def test_only_three_modules_of_training_know_the_mesh():
  known = {
    f'flowdistill/training/{n}.py' for n in ('mesh', 'tactics', 'sharding')
  }
  assert users_of(MESH) - known == set()


def test_only_main_knows_flags():
  assert users_of(FLAGS) - {'flowdistill/main.py'} == set()


def test_what_is_imported_is_declared(metadata):
  declared = {
    normal(re.split(r'[^\w.-]', requirement)[0])
    for requirement in metadata['install_requires']
  }
  owners = packages_distributions()
  missing = {
    f'{name}: {package}'
    for name, tree in TREES.items()
    for package in {x.split('.')[0] for x in imported(tree)}
    - {'flowdistill', *sys.stdlib_module_names}
    if not declared & {normal(owner) for owner in owners.get(package, ())}
    and not (package == 'torch' and name.startswith(AGAINST_TORCH))
    and name not in OF_TORCH
  }
  assert missing == set()


def test_imports_touch_neither_a_device_nor_tensorflow():
  modules = [
    n.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
    for n in TREES
    if 'torch' not in imported(TREES[n])
    and (not n.startswith(AGAINST_TORCH) or n.endswith('supported.py'))
  ]
  program = (
    'import importlib, sys\n'
    'for name in sys.argv[1:]: importlib.import_module(name)\n'
    "assert 'tensorflow' not in sys.modules"
  )
  # Any use of a device raises on a platform that does not exist.
  env = {**os.environ, 'JAX_PLATFORMS': 'none_such'}
  run_python('-c', program, *modules, env=env)


def test_the_package_ships_modules_weights_and_templates(tmp_path):
  run_python('setup.py', '-q', 'build_py', f'--build-lib={tmp_path}')
  package = ROOT / 'flowdistill'
  others = [*package.rglob('*.npz'), *package.rglob('templates/*')]
  expected = {*TREES, *(p.relative_to(ROOT).as_posix() for p in others)}
  built = (p for p in tmp_path.rglob('*') if p.is_file())
  assert {p.relative_to(tmp_path).as_posix() for p in built} == expected
  assert 'flowdistill/networks/digit_classifier.npz' in expected
  assert 'flowdistill/figures/templates/page.html' in expected


def run_python(*arguments, env=None):
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=env,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert done.returncode == 0, done.stderr


def normal(name):
  return re.sub(r'[-_.]+', '-', name).lower()


def imported(tree):
  """Dotted names that are imported: 'a.b' for `from a import b`."""
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def users_of(pattern):
  """The modules that import or read a dotted name that starts like this."""
  return {
    name
    for name, tree in TREES.items()
    if any(pattern.match(x) for x in attributes(tree))
    or any(pattern.match(f'{x}.') for x in imported(tree))
  }


def attributes(tree):
  """Dotted names that are read, such as 'jax.sharding.Mesh'."""
  nodes = (x for x in ast.walk(tree) if isinstance(x, ast.Attribute))
  return {ast.unparse(x) for x in nodes}


def public_functions(tree):
  """Functions of a module, methods of its classes; nothing `_private`."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
      yield from public_functions(node)
    if isinstance(node, ast.FunctionDef) and (
      not node.name.startswith('_') or node.name in ('__init__', '__call__')
    ):
      yield node


def unannotated(function):
  a = function.args
  arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
  names = [x.arg for x in arguments if x and x.annotation is None]
  names = [x for x in names if x not in ('self', 'cls')]
  returns = function.returns or function.name == '__init__'
  return names if returns else [*names, 'return']
