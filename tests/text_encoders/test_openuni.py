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


def test_weights_and_captions_that_do_not_fit_are_refused(parts):
  _, _, options = parts
  weights = random_weights('enc_proj')
  path = options['path']

  def refused(message, changed, captions=('a',), **more):
    save_file({**weights, **changed}, path)
    encoder = TEXT_ENCODERS['openuni'](**options, **more)
    with pytest.raises(ValueError, match=message):
      encoder.encode(captions)

  narrow = {'meta_queries': np.zeros((QUERIES, 64), np.float32)}
  refused('queries .* have 64 numbers, and .* has 128', narrow)
  refused("cannot be read: 'projector.0.weight'", {}, proj_type='proj_enc_proj')
  refused("caption 'word .* has .* tokens .* at most 507", {}, ['word ' * 1000])
  del weights['connector.layers.0.mlp.fc2.bias']
  refused('(?s)openuni.safetensors.* cannot be read: .*fc2.bias', {})
  file = pathlib.Path(options['internvl3']) / 'config.json'
  config = json.loads(file.read_text())
  config['text_config']['model_type'] = 'llama'
  file.write_text(json.dumps(config))
  weights = random_weights('enc_proj')
  refused('internvl3 = .* must be an InternVL3 with Qwen2', {})
