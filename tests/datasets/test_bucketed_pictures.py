"""Batches of pictures of different shapes, one bucket each."""

import io
import itertools

import numpy as np
import PIL.ExifTags
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import tiny_shards
from datasets.tiny_shards import write

from flowdistill.datasets.buckets import Buckets
from flowdistill.datasets.captioned import Captioned
from flowdistill.datasets.folder import folder
from flowdistill.datasets.index_files import make_index
from flowdistill.datasets.parquet import parquet
from flowdistill.datasets.pictures import Pictures
from flowdistill.datasets.pipeline import make_batches
from flowdistill.datasets.stored_latents import StoredLatents
from flowdistill.datasets.webdataset import webdataset
from flowdistill.flow.spec import DataSpec

RULE = Buckets(step=8, max_ratio=2.0)
SHAPES = [(32, 32), (24, 40), (40, 24)]
SIZES = [(32, 32), (48, 80), (80, 48), (33, 30), (24, 40), (10, 40)]
BUCKET_OF = [0, 1, 2, 0, 1, 1]


def png(k, size):
  """A picture of one colour, by which it is known."""
  file = io.BytesIO()
  colour = (10 * k, 255 - 10 * k, 7)
  PIL.Image.new('RGB', size[::-1], colour).save(file, 'PNG')
  return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
  """18 pictures: 6 shapes in three buckets, three times."""
  for k in range(18):
    (tmp_path / f'{k:02d}.png').write_bytes(png(k, SIZES[k % 6]))
  return tmp_path


def opened(path, **options):
  given = {'size': 32, 'buckets': RULE, **options}
  return folder(path=str(path), **given)


def read(path, count, **options):
  """The first batches, each as (height, width) and numbers of pictures."""
  given = {'batch_size': 4, 'seed': 3, **options}
  found = itertools.islice(make_batches(opened(path), **given), count)
  return [(b['x0'].shape[1:3], numbers(b['x0'])) for b in found]


def numbers(x0):
  """The numbers of pictures x0 [b, h, w, 3]."""
  return np.rint((x0[:, 0, 0, 0] + 1) * 12.75).astype(int).tolist()


def test_each_batch_has_the_pictures_of_one_bucket(pictures):
  source = opened(pictures)
  assert source.buckets == SHAPES
  assert source.bucket_of.tolist() == BUCKET_OF * 3
  for shape, shown in read(pictures, 12):
    assert {SHAPES[BUCKET_OF[k % 6]] for k in shown} == {shape}


def test_two_epochs_have_each_picture_twice_but_for_what_is_carried_over(
  pictures,
):
  """Of buckets of 6, 9 and 3 pictures: 12, 18 and 6, of which 16 and 4."""
  shown = [k for _, some in read(pictures, 8) for k in some]
  counts = np.bincount(shown, minlength=18)
  assert counts.max() == 2
  by_bucket = [counts[np.asarray(BUCKET_OF * 3) == b].sum() for b in range(3)]
  assert by_bucket == [12, 16, 4]


def test_bytes_go_on_from_the_middle_of_a_bucket_and_of_an_epoch(pictures):
  whole = make_batches(opened(pictures), batch_size=4, seed=3)
  whole = [b['x0'].tobytes() for b in itertools.islice(whole, 9)]
  for start in (1, 3, 6):
    late = make_batches(opened(pictures), batch_size=4, seed=3, start=start)
    late = [b['x0'].tobytes() for b in itertools.islice(late, 9 - start)]
    assert late == whole[start:]


def test_the_rows_of_two_hosts_are_those_of_one(pictures):
  """Also if they go on where one host stopped."""
  whole = read(pictures, 7)
  hosts = [read(pictures, 5, start=2, process=(p, 2)) for p in (0, 1)]
  for (shape, shown), one, other in zip(whole[2:], *hosts, strict=True):
    assert (one[0], other[0]) == (shape, shape)
    assert one[1] + other[1] == shown


def test_a_picture_is_scaled_to_cover_its_bucket_and_cropped_in_the_centre(
  tmp_path,
):
  """48 x 100 -> 24 x 50 -> the middle 40 columns."""
  ramp = np.broadcast_to(np.arange(100, dtype=np.uint8), (48, 100))
  PIL.Image.fromarray(np.repeat(ramp[..., None], 3, -1)).save(
    tmp_path / 'a.png'
  )
  x0 = opened(tmp_path).cropped(np.asarray([0]), 1)['x0']
  assert x0.shape == (1, 24, 40, 3)
  found = (x0[0, 12, :, 0] + 1) * 127.5
  np.testing.assert_allclose(found, 10.5 + 2 * np.arange(40), atol=1)


def test_by_index_they_are_squares(pictures):
  """So that evaluators compare with one shape."""
  source, plain = opened(pictures), opened(pictures, buckets=None)
  assert plain.buckets is None
  index = np.arange(6)
  np.testing.assert_array_equal(source[index]['x0'], plain[index]['x0'])
  with pytest.raises(ValueError, match='have no buckets'):
    plain.cropped(index, 0)


def test_labels_and_orientation_are_respected(tmp_path):
  for k, name in enumerate(('a', 'b')):
    (tmp_path / name).mkdir()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6 if k else 1  # turned by a quarter
    picture = PIL.Image.new('RGB', (80, 48))
    picture.save(tmp_path / name / '0.jpg', exif=exif)
  source = opened(tmp_path, by_class=True)
  assert source.bucket_of.tolist() == [1, 2]
  for bucket, label in ((1, 0), (2, 1)):
    batch = source.cropped(np.asarray([label]), bucket)
    assert batch['label'].tolist() == [label]


def test_the_next_picture_takes_the_place_of_a_broken_one(pictures, caplog):
  (pictures / '01.png').write_bytes(b'\x89PNG no more')
  source = opened(pictures, max_broken=0.1)
  assert source.bucket_of[1] == 0  # as square
  assert set(source.broken) == {'01.png'}
  x0 = source.cropped(np.asarray([1]), 0)['x0']
  assert (x0.shape[1:3], numbers(x0)) == ((32, 32), [2])
  with pytest.raises(ValueError, match='max_broken = 0.01'):
    _ = opened(pictures).bucket_of


def test_captions_stay_with_their_pictures(tmp_path):
  members = []
  for k in range(6):
    members.append((f'{k}.png', png(k, SIZES[k])))
    members.append((f'{k}.txt', f'number {k}'.encode()))
  path = str(write(tmp_path / 'a.tar', members))
  with pytest.raises(ValueError, match='buckets need an index'):
    webdataset(path=path, size=32, buckets=RULE)
  make_index(path)
  source = webdataset(path=path, size=32, buckets=RULE)
  assert source.bucket_of.tolist() == BUCKET_OF
  captioned = Captioned(source, tiny_shards.Numbers())
  batches = make_batches(captioned, batch_size=2, seed=0)
  for batch in itertools.islice(batches, 6):
    assert batch['x0'].shape[1:3] in SHAPES
    assert batch['number'].tolist() == numbers(batch['x0'])


def indexed(folder, pictures):
  """The source of a shard with these pictures, which is indexed."""
  members = [
    member
    for k, data in enumerate(pictures)
    for member in ((f'{k}.png', data), (f'{k}.txt', f'number {k}'.encode()))
  ]
  path = str(write(folder / 'a.tar', members))
  make_index(path)
  return webdataset(path=path, size=32, buckets=RULE, max_broken=0.2)


def test_an_index_knows_the_shapes_so_that_no_picture_is_read(
  tmp_path, monkeypatch
):
  source = indexed(tmp_path, [png(k, SIZES[k]) for k in range(6)])
  assert source.encoded.shape.tolist() == [[*size] for size in SIZES]

  def read(place):
    raise AssertionError(f'{place} is read')

  monkeypatch.setattr(source.encoded, 'read', read)
  assert source.bucket_of.tolist() == BUCKET_OF


def test_an_index_has_the_shape_of_the_upright_picture(tmp_path):
  file, exif = io.BytesIO(), PIL.Image.Exif()
  exif[PIL.ExifTags.Base.Orientation] = 6
  PIL.Image.new('RGB', (24, 40)).save(file, 'PNG', exif=exif)
  source = indexed(tmp_path, [file.getvalue()])
  assert source.encoded.shape.tolist() == [[24, 40]]
  assert source.bucket_of.tolist() == [1]


def test_a_picture_whose_shape_no_index_knows_is_read_and_named(tmp_path):
  pictures = [png(k, SIZES[k]) for k in range(6)]
  source = indexed(tmp_path, [*pictures[:5], pictures[5][:20]])
  assert source.encoded.shape[5].tolist() == [0, 0]
  assert source.bucket_of.tolist() == [*BUCKET_OF[:5], 0]
  assert [*source.broken] == ['a.tar/5']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'resize': 'stretch'}, "resize = 'stretch' must be 'centre_crop'"),
    ({'size': 36}, 'step = 8 must divide size = 36; size may be 32 or 40'),
  ],
)
def test_bad_options_are_refused(pictures, options, message):
  with pytest.raises(ValueError, match=message):
    opened(pictures, **options)


def test_rows_are_cropped_and_refused_with_control_pictures(
  tmp_path,
):
  """These would have another shape than the pictures of their batch."""
  rows = {name: [png(k, SIZES[k]) for k in range(6)] for name in ('a', 'b')}
  captions = [f'number {k}' for k in range(6)]
  pq.write_table(pa.table({**rows, 'text': captions}), tmp_path / 'a.parquet')
  options = {'path': str(tmp_path), 'image': 'a', 'size': 32, 'buckets': RULE}
  source = parquet(**options, text=lambda _: tiny_shards.Numbers())
  assert source.bucket_of.tolist() == BUCKET_OF
  batch = source.cropped(np.asarray([4, 1]), 1)
  assert batch['x0'].shape == (2, 24, 40, 3)
  assert batch['number'].tolist() == numbers(batch['x0']) == [4, 1]
  with pytest.raises(ValueError, match='buckets must be None with control'):
    parquet(**options, control='b')


def test_latents_are_refused():
  """They have one shape, that of their encoder."""
  spec = DataSpec((4, 4, 4)).to_json()
  latents = StoredLatents({'spec': spec, 'pictures': [32, 32, 3]})
  with pytest.raises(ValueError, match='buckets must be None with latents'):
    Pictures([], latents, max_broken=0.0, buckets=RULE)
