"""Small parquet and Arrow files of the pictures of tiny_shards.py.

The folders of Hugging Face's `datasets` are written by pyarrow in the layout of
its `save_to_disk`.
"""

import json

import pyarrow as pa
from datasets.tiny_shards import png


def table(numbers, captions=None, **columns):
  """Rows for parquet: picture k has the caption 'number k', or captions[k]."""
  texts = captions or {k: f'number {k}' for k in numbers}
  return pa.table(
    {
      'text': [texts[k] for k in numbers],
      'image_bytes': [png(k) for k in numbers],
      **columns,
    }
  )


def save(folder, sizes, batch=3, captions=None, **state):
  """Files of numbered rows, in streams of small record batches."""
  folder.mkdir(exist_ok=True)
  names, first = [], 0
  for k, size in enumerate(sizes):
    numbers = range(first, first + size)
    records = [{'bytes': png(n), 'path': None} for n in numbers]
    rows = table(numbers, captions).drop_columns(['image_bytes'])
    rows = rows.append_column('image', pa.array(records))
    names.append(f'data-{k:05d}-of-{len(sizes):05d}.arrow')
    with pa.OSFile(str(folder / names[-1]), 'wb') as file:
      with pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=batch)
    first += size
  files = [{'filename': name} for name in names]
  record = {
    '_data_files': files,
    '_fingerprint': 'a',
    '_split': 'train',
    **state,
  }
  (folder / 'state.json').write_text(json.dumps(record))
  (folder / 'dataset_info.json').write_text('{}')
  return folder
