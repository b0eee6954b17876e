"""Which files are pictures: by the ending of a name, or by the first bytes.

A name with a known ending is not opened, so that a million files are listed
without reading them; any other is a picture if it begins as one.
"""

import functools
import re

import PIL.Image

# Formats that Pillow reads by itself: for some of the others (EPS) it starts a
# program. TGA comes last: it has no signature, so that its ending must tell.
FORMATS = (
  'PNG',
  'JPEG',
  'WEBP',
  'AVIF',
  'JPEG2000',
  'GIF',
  'BMP',
  'TIFF',
  'PPM',
  'QOI',
  'SGI',
  'PCX',
  'TGA',
)
BY_NAME = """
  .png .apng .jpg .jpeg .jpe .jfif .mpo .webp .avif .jp2 .j2k .jpx .gif .bmp
  .tif .tiff .ppm .pgm .pbm .pnm .pfm .qoi .tga
"""
ENDINGS = frozenset(BY_NAME.split())
# What a folder of pictures has beside them: text, records, archives, weights;
# raw photographs, which begin as a TIFF and of which Pillow reads a thumbnail;
# incomplete and older copies.
LEFT_OUT = """
  .txt .md .rst .html .htm .xml .json .jsonl .ndjson .csv .tsv .yaml .yml .toml
  .ini .cfg .conf .log .lst .cls .caption .captions .info .nfo .url .lnk
  .xmp .aae .db .sqlite .lock .py .ipynb .pyc .sh .bat .exe .dll .so .js
  .css .php .c .h .cpp .m .doc .docx .xls .xlsx .ppt .pptx .rtf .odt
  .pdf .ps .eps .ai .svg .svgz .psd .xcf .blend .heic .heif .jxl .exr .hdr .ico
  .icns .cur .dds .wmf .emf .fits .fit .dcm .nii .mhd .mha
  .raw .dng .nef .nrw .cr2 .cr3 .crw .arw .srf .sr2 .orf .rw2 .raf .pef .srw
  .3fr .erf .kdc .dcr .mrw .rwl .iiq .x3f .thm
  .zip .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .7z .rar .iso
  .npy .npz .mat .h5 .hdf5 .pkl .pickle .pt .pth .ckpt .safetensors .onnx
  .tfrecord .tfrecords .arrow .parquet .feather .mdb .lmdb
  .mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .lrv .mp3 .wav .flac .m4a
  .part .partial .crdownload .download .aria2 .tmp .temp .swp .bak .old .orig
"""
OTHERS = frozenset(LEFT_OUT.split())
HEAD = 32  # bytes that tell
SIGNATURE = re.compile(
  rb'\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|qoif'
  rb'|RIFF.{4}WEBP|.{4}ftypavi[fs]'
  rb'|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\x00'
  rb'|II\*\x00|MM\x00\*|II\+\x00|MM\x00\+'
  rb'|BM.{4}\x00{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00{3}'
  rb'|P[1-6]\s+[\d#]|Pf\s+\d'
  rb'|\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]'
  rb'|\n[\x00\x02\x03\x05]\x01[\x01\x02\x04\x08]',
  re.DOTALL,
)
SYSTEM = ('__MACOSX', 'lost+found', '$RECYCLE.BIN', 'System Volume Information')


def is_hidden(name: str) -> bool:
  """Whether a part of a name is that of a hidden or a system file."""
  parts = name.split('/')
  return any(part.startswith('.') or part in SYSTEM for part in parts)


def ending_of(name: str) -> str:
  """'.jpg' of 'a/b.JPG'; '~' of a copy that an editor kept; '' if none."""
  file = name.rpartition('/')[2].lower()
  stem, dot, ending = file.rpartition('.')
  if file.endswith('~'):
    return '~'
  return dot + ending if stem and ending else ''


def is_picture(name: str) -> bool | None:
  """Whether a name is that of a picture; None if only its content can tell."""
  ending = ending_of(name)
  if ending in ENDINGS:
    return True
  return False if ending in OTHERS or ending == '~' else None


def begins_as_picture(head: bytes) -> bool:
  """Whether the first `HEAD` bytes of a file are those of a picture."""
  return SIGNATURE.match(head) is not None


@functools.cache
def readable() -> tuple[str, ...]:
  """Those of `FORMATS` that the installed Pillow has."""
  known = set(PIL.Image.registered_extensions().values())
  return tuple(name for name in FORMATS if name in known)
