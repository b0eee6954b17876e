"""OpenUni's text is what its definition says, on random weights.

The language model is that of transformers' InternVL, which reads one prompt at
a time, without padding; the connector is written out here.
"""

import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flowdistill.text_encoders import TEXT_ENCODERS
from flowdistill.text_encoders.running import Running

torch = pytest.importorskip('torch')
pytest.importorskip('transformers')
tiny = pytest.importorskip('text_encoders.tiny_models')

pytestmark = pytest.mark.slow
QUERIES, WIDTH, INNER, OUT, LAYERS = 5, 128, 40, 24, 2
PROMPTS = [
  'a red square',
  ' Two {blue} circles ',
  '',
  '🔥 صورة حصان',
  'a ' * 60,
]
WRITTEN = [
  '<|im_start|>user\nGenerate an image: a red square<|im_end|>\n',
  '<|im_start|>user\nGenerate an image: Two {blue} circles<|im_end|>\n',
  '<|im_start|>user\nGenerate an image.<|im_end|>\n',
  '<|im_start|>user\nGenerate an image: 🔥 صورة حصان<|im_end|>\n',
  f'<|im_start|>user\nGenerate an image: {"a " * 59}a<|im_end|>\n',
]
ENDS = {  # the linear layers around the connector: name -> [in, out]
  'enc_proj': ({}, {'projector': (WIDTH, OUT)}),
  'proj_enc': ({'projector': (WIDTH, 64)}, {}),
  'proj_enc_proj': ({'projector.0': (WIDTH, 64)}, {'projector.1': (64, OUT)}),
}


def random_weights(proj_type):
  """Those of a checkpoint of OpenUni, without SANA."""
  before, behind = ENDS[proj_type]
  width = 64 if before else WIDTH
  linear = {**before, **behind}
  norms = []
  for k in range(LAYERS):
    layer = f'connector.layers.{k}'
    for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj'):
      linear[f'{layer}.self_attn.{name}'] = (width, width)
    linear[f'{layer}.mlp.fc1'] = (width, INNER)
    linear[f'{layer}.mlp.fc2'] = (INNER, width)
    norms += [f'{layer}.layer_norm1', f'{layer}.layer_norm2']
  rng = np.random.default_rng(1)
  made = {'meta_queries': rng.normal(size=(QUERIES, WIDTH))}
  for name, (n, m) in linear.items():
    made[f'{name}.weight'] = rng.normal(size=(m, n)) / n**0.5
    made[f'{name}.bias'] = rng.normal(size=m)
  for name in norms:
    made[f'{name}.weight'] = 1 + rng.normal(size=width) / 4
    made[f'{name}.bias'] = rng.normal(size=width) / 4
  made['transformer.other'] = rng.normal(size=3)
  return {name: array.astype(np.float32) for name, array in made.items()}


def connected(weights, proj_type, x):
  """The connector and the linear layers, as OpenUni defines them."""
  w = {name: torch.tensor(array) for name, array in weights.items()}
  f = torch.nn.functional

  def linear(name, x):
    return f.linear(x, w[f'{name}.weight'], w[f'{name}.bias'])

  def norm(name, x):
    given = w[f'{name}.weight'], w[f'{name}.bias']
    return f.layer_norm(x, x.shape[-1:], *given, eps=1e-6)

  def attention(name, x):
    q, k, v = (
      linear(f'{name}.{part}_proj', x).unflatten(-1, (-1, 64)).transpose(0, 1)
      for part in 'qkv'
    )
    weight = torch.softmax(q @ k.transpose(1, 2) / 8, dim=-1)
    return linear(f'{name}.out_proj', (weight @ v).transpose(0, 1).flatten(1))

  before, behind = ENDS[proj_type]
  for name in before:
    x = linear(name, x)
  for k in range(LAYERS):
    layer = f'connector.layers.{k}'
    x = x + attention(f'{layer}.self_attn', norm(f'{layer}.layer_norm1', x))
    h = linear(f'{layer}.mlp.fc1', norm(f'{layer}.layer_norm2', x))
    x = x + linear(f'{layer}.mlp.fc2', f.gelu(h, approximate='tanh'))
  for name in behind:
    x = linear(name, x)
  return x


@pytest.fixture
def parts(tmp_path):
  """A tiny InternVL, its tokenizer, and the options of their folders."""
  torch.manual_seed(0)
  model = tiny.internvl(tmp_path / 'internvl3')
  tokens = tiny.tokenizer(tmp_path / 'tokens', layout='$A', most=512)
  options = {
    'internvl3': f'{tmp_path}/internvl3',
    'tokenizer': f'{tmp_path}/tokens',
    'path': f'{tmp_path}/openuni.safetensors',
  }
  return model, tokens, options


def encode(**options):
  encoder = TEXT_ENCODERS['openuni'](running=Running(batch_size=3), **options)
  encoder.check()
  return encoder, encoder.encode(PROMPTS)


def wanted(model, tokens, weights, proj_type):
  """One prompt at a time, without padding."""
  llm, found = model.model.language_model, []
  queries = torch.tensor(weights['meta_queries'])
  for prompt in WRITTEN:
    row = tokens(f'{prompt}<|im_start|>assistant\n<img>')['input_ids']
    said = llm.embed_tokens(torch.tensor(row))
    with torch.no_grad():
      states = llm(inputs_embeds=torch.cat([said, queries])[None])
      last = states.last_hidden_state[0, -QUERIES:]
      found.append(connected(weights, proj_type, last).numpy())
  return np.stack(found)


def close(ours, theirs):
  assert ours.shape == theirs.shape
  largest = np.abs(theirs).max()
  assert np.abs(theirs - theirs[:1]).max() > 0.01 * largest  # prompts matter
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize('proj_type', [*ENDS])
def test_the_states_of_the_queries(parts, proj_type):
  model, tokens, options = parts
  weights = random_weights(proj_type)
  save_file(weights, options['path'])
  encoder, found = encode(proj_type=proj_type, **options)
  assert found.keys() == {'text'}
  close(found['text'], wanted(model, tokens, weights, proj_type))
  assert encoder.length == QUERIES
  assert encoder.sizes(PROMPTS) == [QUERIES] * len(PROMPTS)


def test_files_of_the_authors(parts, tmp_path):
  """Other names, in an .safetensors and in a .pth: the same numbers."""
  model, tokens, options = parts
  weights = random_weights('enc_proj')
  path = tmp_path / 'openuni.pth'
  torch.save({k: torch.tensor(v) for k, v in weights.items()}, path)
  folder = tmp_path / 'of_authors'
  folder.mkdir()
  arrays = load_file(f'{options["internvl3"]}/model.safetensors')
  save_file(
    {
      k.replace('model.language_model.', 'language_model.model.'): v
      for k, v in arrays.items()
    },
    folder / 'model.safetensors',
  )
  text = model.config.text_config.to_dict()
  config = {'model_type': 'internvl_chat', 'llm_config': text}
  (folder / 'config.json').write_text(json.dumps(config))
  options |= {'path': str(path), 'internvl3': str(folder)}
  _, found = encode(**options)
  close(found['text'], wanted(model, tokens, weights, 'enc_proj'))


def test_a_pickle_that_would_run_code_is_refused(parts, tmp_path):
  class Evil:
    def __reduce__(self):
      return (print, ('executed',))

  _, _, options = parts
  path = tmp_path / 'evil.pth'
  torch.save({'meta_queries': Evil()}, path)
  with pytest.raises(ValueError, match='(?s)evil.pth.* cannot be read'):
    encode(**{**options, 'path': str(path)})


def refused(options, message, weights, captions=('a',), **more):
  save_file(weights, options['path'])
  encoder = TEXT_ENCODERS['openuni'](**options, **more)
  with pytest.raises(ValueError, match=message):
    encoder.encode(captions)


def changed(**arrays):
  """Weights of which some are others; those that are None are missing."""
  made = {**random_weights('enc_proj'), **arrays}
  return {name: array for name, array in made.items() if array is not None}


MATRIX = np.ones((QUERIES, 64), np.float32)
CASES = {
  'wrong queries': (changed(meta_queries=MATRIX), '^path = .*cannot be read'),
  'no queries': (
    changed(meta_queries=np.ones((0, WIDTH), np.float32)),
    r'meta_queries has the shape \[0, 128\]',
  ),
  'whole queries': (
    changed(meta_queries=np.ones((QUERIES, WIDTH), np.int64)),
    'of torch.int64, and must be',
  ),
  'too many queries': (
    changed(meta_queries=np.ones((600, WIDTH), np.float32)),
    '^internvl3 = .* must read more than the 600 queries',
  ),
  'none at all': ({'a': MATRIX}, r'there is no connector\.\*$'),
  'a part that is missing': (
    changed(**{'connector.layers.0.mlp.fc2.bias': None}),
    '(?s)^path = .*cannot be read .*fc2.bias',
  ),
  'two linear layers': (
    random_weights('proj_enc_proj'),
    r"proj_type = 'enc_proj': projector\.\* must be weight and bias",
  ),
}


@pytest.mark.parametrize('case', CASES)
def test_weights_that_do_not_fit_are_refused(parts, case):
  weights, message = CASES[case]
  refused(parts[2], message, weights)


def test_a_caption_that_is_longer_than_the_model_reads_is_named(parts):
  message = "caption 'word .* has .* tokens .* at most 507"
  refused(parts[2], message, changed(), ['word ' * 1000])


def llama(folder):
  file = folder / 'config.json'
  config = json.loads(file.read_text())
  config['text_config']['model_type'] = 'llama'
  file.write_text(json.dumps(config))


def another(folder):
  arrays = load_file(folder / 'model.safetensors')
  more = {f'a.{name}': array for name, array in arrays.items()}
  save_file(more, folder / 'a.safetensors')


def shallow(folder):
  file = folder / 'config.json'
  config = json.loads(file.read_text())
  config['text_config']['num_hidden_layers'] = 2
  config['text_config']['layer_types'] = ['full_attention'] * 2
  file.write_text(json.dumps(config))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (llama, 'text_config of its config.json is no Qwen2'),
    (another, 'its files have 2 language models'),
    (shallow, r'unexpected weights: layers\.2\.'),
    (lambda f: (f / 'config.json').write_text('{'), 'cannot be read'),
    (lambda f: (f / 'model.safetensors').write_bytes(b'x'), 'cannot be read'),
  ],
)
def test_other_language_models_are_refused(parts, change, message):
  options = parts[2]
  change(pathlib.Path(options['internvl3']))
  refused(options, f'^internvl3 = .*{message}', changed())


def test_files_below_the_home_of_the_user(parts, monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  save_file(changed(), parts[2]['path'])
  options = {
    name: path.replace(str(tmp_path), '~') for name, path in parts[2].items()
  }
  encode(**options)
