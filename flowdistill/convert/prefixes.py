r"""The prefixes of names in the files of others: what wraps the weights.

A name such as 'state_dict.model._orig_mod.module.all_modules.0.weight' is that
of an array of the network after words that say how it was saved: the keys of a
checkpoint (state_dict, model_state_dict), the attribute of a Lightning module
(model, net), DataParallel (module), and torch.compile (_orig_mod) and FSDP,
whose words may also stand inside of a name. Known words are looked through in
any order and number; below other words, such as 'discriminator', nothing is
read.

One rule says what is what. Below a word such as ema, ema_model or params_ema
are EMA weights, everything else are the parameters; where there are only EMA
weights, they are the parameters. An array that is there twice, such as below
model and below state_dict, is an error that names both.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

PLAIN = (
  *('state_dict', 'model_state_dict', 'model_state', 'state', 'checkpoint'),
  *('model', 'module', 'net', 'network', 'unet', 'score_model', 'online_model'),
  *('weights', 'params', 'first_stage_model', 'diffusion_model'),
)
"""Words before the parameters."""
AVERAGES = ('shadow', 'averaged_model')
"""Words before EMA weights, beside ema itself, ema_model, net_ema, ..."""
INSIDE = ('_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module')
"""Words that may also stand inside of a name."""
SHADOW = re.compile(r'shadow_params\.(\d{1,9})$')
LONGEST = 1000  # characters of a name


class Part(NamedTuple):
  """A name of a file, in parts.

  Attributes:
    prefix: all words before the name, and those inside of it.
    bare: the name in the architecture.
    ema: whether it is that of EMA weights.
  """

  prefix: str
  bare: str
  ema: bool


@dataclasses.dataclass(frozen=True)
class Found:
  """The names of a network's arrays in a file.

  Attributes:
    params, ema: name in the architecture -> in the file.
    shadow: number -> name in the file, of a bare list of EMA weights.
    prefixes: 'params' and 'ema' -> their prefixes, '' for none.
  """

  params: Mapping[str, str]
  ema: Mapping[str, str]
  shadow: Mapping[int, str]
  prefixes: Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Naming:
  """The names of the arrays of an architecture in PyTorch.

  Attributes:
    name: of the architecture, for messages.
    first: a pattern that all names begin with.
    ignored: a pattern of names that no rule reads.
  """

  name: str
  first: str
  ignored: str = '(?!)'

  def split(self, name: str) -> Part | None:
    """The parts of a name, None if it is not of this architecture."""
    inside = [word for word in INSIDE if f'{word}.' in name]
    plain = name
    for word in inside:
      plain = plain.replace(f'{word}.', '')
    split = _after_words(plain, self.first)
    if not split or re.search(self.ignored, split[1]):
      return None
    words, bare = split
    ema = any(map(_is_average, words))
    if ema and 'online_model' in words:  # of ema_pytorch: the model again
      return None
    if not name.endswith(bare):
      words = [*words, *inside]
      return Part(''.join(f'{word}.' for word in words), bare, ema)
    return Part(name.removesuffix(bare), bare, ema)

  def bare(self, name: str) -> str | None:
    """A name without prefixes, None if it is not of this architecture."""
    part = self.split(name)
    return part and part.bare

  def find(self, names: Iterable[str]) -> Found:
    """The arrays of this architecture in a file.

    Raises:
      ValueError: naming two arrays that could both be one of the network's.
    """
    names = list(names)
    shadow = {i: n for n in names if (i := shadow_number(n)) is not None}
    parts = {n: part for n in names if (part := self.split(n))}
    params = {n: part for n, part in parts.items() if not part.ema}
    ema = {n: part for n, part in parts.items() if part.ema}
    if not params:
      params, ema = ema, {}
    if ema and shadow:
      raise ValueError(
        f'{min(ema)} and {min(shadow.values())} are both EMA weights: save one '
        'of them alone'
      )
    prefixes = {
      'params': _prefixes(params),
      'ema': _prefixes(ema) or _lists(shadow),
    }
    return Found(_once(params), _once(ema), shadow, prefixes)


def shadow_number(name: str) -> int | None:
  """7 of 'ema.shadow_params.7', of a bare list of EMA weights."""
  split = _after_words(name, SHADOW)
  return int(split[1].rpartition('.')[2]) if split else None


def _after_words(
  name: str, pattern: str | re.Pattern[str]
) -> tuple[list[str], str] | None:
  """Known words, and the rest of a name, which begins as `pattern` says."""
  words, rest = list[str](), name
  while len(name) <= LONGEST and not re.match(pattern, rest):
    word, dot, rest = rest.partition('.')
    if not dot or not (word in PLAIN or _is_average(word)):
      return None
    words.append(word)
  return (words, rest) if len(name) <= LONGEST else None


def _is_average(word: str) -> bool:
  return word in AVERAGES or 'ema' in word.split('_')


def _prefixes(parts: Mapping[str, Part]) -> list[str]:
  return list(dict.fromkeys(part.prefix for part in parts.values()))


def _lists(shadow: Mapping[int, str]) -> list[str]:
  """'ema.shadow_params.' of its arrays."""
  return list(
    dict.fromkeys(f'{n.rpartition(".")[0]}.' for n in shadow.values())
  )


def _once(parts: Mapping[str, Part]) -> dict[str, str]:
  """Bare name -> name; raises ValueError if two have the same bare name."""
  found: dict[str, str] = {}
  for name, part in parts.items():
    if part.bare in found:
      raise ValueError(
        f'{part.bare} appears twice, as {found[part.bare]} and as {name}: '
        'save one of them alone'
      )
    found[part.bare] = name
  return found
