"""OpenUni's text: what queries that were learnt read out of InternVL3.

The prompt and then 256 vectors run through the language model of InternVL3,
and a small transformer without a mask and a linear layer turn the states of the
vectors into the tokens that SANA sees.

Source: Wu et al., "OpenUni: A Simple Baseline for Unified Multimodal
Understanding and Generation" (2025), https://arxiv.org/abs/2505.23661, section
3, and its configs, https://github.com/wusize/OpenUni; InternVL3: Zhu et al.
(2025), https://arxiv.org/abs/2504.10479.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flowdistill.files.checksums import digests
from flowdistill.files.paths import expand
from flowdistill.text_encoders.encoder import TEXT, Arrays, in_batches, in_row
from flowdistill.text_encoders.folder import (
  check_installed,
  check_model,
  check_tokenizer,
  folder_of,
  hashes_of,
  loading,
)
from flowdistill.text_encoders.running import Running

TURN = '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<img>'
PROMPT = TURN.replace('{}', 'Generate an image: {}')
NULL = TURN.replace('{}', 'Generate an image.')
LINEAR = {
  'proj_enc': ('projector', ''),
  'enc_proj': ('', 'projector'),
  'proj_enc_proj': ('projector.0', 'projector.1'),
}
"""Where linear layers are: their names before and behind the connector."""
SUFFIXES = ('.safetensors', '.pth')


@dataclasses.dataclass(frozen=True)
class OpenUni:
  """The queries of OpenUni in the language model of InternVL3.

  Attributes:
    path: the file of the queries, the connector and the linear layers.
    internvl3: the folder of InternVL3.
    tokenizer: that of the tokenizer.
    proj_type: where the linear layers are.
    running: how it runs.
  """

  path: str
  internvl3: str
  tokenizer: str
  proj_type: str
  running: Running
  masked: ClassVar[bool] = False  # every query has a state

  def __post_init__(self) -> None:
    if self.proj_type not in LINEAR:
      choices = ', '.join(map(repr, LINEAR))
      raise ValueError(f'proj_type = {self.proj_type!r} must be of {choices}')

  def check(self) -> None:
    """Raises ValueError if files are missing, or PyTorch."""
    check_model('internvl3', self.internvl3)
    check_tokenizer('tokenizer', self.tokenizer)
    self._file()
    check_installed()

  def _file(self) -> pathlib.Path:
    file = expand(self.path, f'path = {self.path!r}')
    if not self.path or file.suffix not in SUFFIXES or not file.is_file():
      raise ValueError(
        f'path = {self.path!r} must be a {" or ".join(SUFFIXES)} with the '
        'queries and the connector of OpenUni'
      )
    return file

  def about(self) -> Mapping[str, Any]:
    """The prompts, and the hashes of all files."""
    (weights,) = digests([self._file()])
    return {
      'name': 'openuni',
      'template': PROMPT,
      'null': NULL,
      'proj_type': self.proj_type,
      'dtype': self.running.dtype,
      'files': {
        'path': weights,
        'internvl3': hashes_of('internvl3', self.internvl3),
        'tokenizer': hashes_of('tokenizer', self.tokenizer),
      },
    }

  @functools.cached_property
  def _tokens(self) -> Any:
    from flowdistill.text_encoders.torch_models import load_tokenizer

    folder = folder_of('tokenizer', self.tokenizer)
    with loading('tokenizer', self.tokenizer):
      return load_tokenizer(folder)

  @functools.cached_property
  def _model(self) -> Any:
    from flowdistill.text_encoders import queried_model as model
    from flowdistill.text_encoders.internvl3 import language_model

    with loading('path', self.path, f' with proj_type = {self.proj_type!r}'):
      weights = model.read(self._file())
      connector = model.Connected(weights, LINEAR[self.proj_type])
      queries = model.queries_of(weights, connector)
    folder = folder_of('internvl3', self.internvl3)
    with loading('internvl3', self.internvl3, ' as an InternVL3'):
      llm = language_model(folder, self.running.dtype)
      return model.queried(llm, connector, queries, self.running)

  @property
  def length(self) -> int:
    """The number of queries, which are the tokens of any prompt."""
    return self._model.length

  def sizes(self, captions: Sequence[str]) -> list[int]:
    """The number of queries, for each caption: none is cut."""
    return [self.length] * len(captions)

  def encode(self, captions: Sequence[str]) -> Arrays:
    """Captions -> `text` [n, queries, width that SANA sees].

    Raises:
      ValueError: if a caption has more tokens than the model reads.
    """
    return in_batches(self._batch, captions, self.running.batch_size)

  def _batch(self, captions: Sequence[str]) -> Arrays:
    prompts = [PROMPT.format(c.strip()) if c else NULL for c in captions]
    rows = self._tokens(prompts)
    for caption, row in zip(captions, rows, strict=True):
      if len(row) > self._model.most:
        raise ValueError(
          f'the caption {caption[:40]!r}... has {len(row)} tokens in its '
          f'template, and InternVL3 reads at most {self._model.most}'
        )
    longest = max(map(len, rows))
    return {TEXT: self._model(*in_row(rows, longest, self._tokens.padding))}
