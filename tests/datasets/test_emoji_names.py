"""What emoji are called, with and without the file of names."""

import pytest
from datasets import tiny_font
from datasets.tiny_font import DARK, ENGINE, JOIN, LIGHT, MAN, WAVE, WOMAN, A

from flowdistill.datasets.emoji_names import Name, Names, read_names

FLAG, CANCEL = 0x1F3F4, 0xE007F


@pytest.fixture
def read(tmp_path):
  def read(text):
    path = tmp_path / 'names.txt'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_names(str(path))

  return read


@pytest.fixture
def names(read):
  return read(tiny_font.NAMES)


def test_listed_emoji_have_their_name_group_and_subgroup(names):
  found = names.of([(WAVE, LIGHT)])
  wanted = 'waving hand: light skin tone', 'People & Body', 'hand-fingers-open'
  assert found == Name(*wanted)
  assert names.of([(0x1F336,)]).name == 'hot pepper'
  assert names.of([(0x1F336,)]).group == 'Food & Drink'


def test_of_several_spellings_those_that_are_listed_count(names):
  assert names.of([(ENGINE, JOIN, MAN), (MAN, JOIN, ENGINE)]).name == (
    'man firefighter'
  )
  assert names.of([(WOMAN,), (MAN,)]).name == 'man or woman'


@pytest.mark.parametrize(
  ('spelt', 'name', 'group'),
  [
    ([(WAVE, DARK)], 'waving hand: dark skin tone', 'People & Body'),
    (
      [(WAVE, LIGHT, JOIN, MAN)],
      'waving hand: light skin tone, man',
      'People & Body',
    ),
    (
      [(0x27A1, JOIN, MAN, JOIN, ENGINE), (MAN, JOIN, ENGINE, JOIN, 0x27A1)],
      'man firefighter: black rightwards arrow',
      'People & Body',
    ),
    (
      [(FLAG, 0xE0075, 0xE0073, 0xE0063, 0xE0061, CANCEL)],
      'flag: US-CA',
      'Flags',
    ),
    ([(A,)], 'regional indicator symbol letter a', 'Component'),
    ([(0x23,)], 'number sign', 'Component'),
    ([(0xFE4E5,)], 'u+fe4e5', 'Component'),
  ],
)
def test_others_are_named_after_their_parts(names, spelt, name, group):
  found = names.of(spelt)
  assert (found.name, found.group) == (name, group)


def test_without_the_file_characters_have_the_names_of_python():
  found = Names({}).of([(MAN, JOIN, ENGINE)])
  assert found.name == 'man: fire engine'


def test_older_files_have_no_versions(read):
  text = '# group: G\n# subgroup: s\n1F44B ; fully-qualified # 👋 waving hand\n'
  assert read(f'{text}#EOF\n').of([(WAVE,)]) == Name('waving hand', 'G', 's')


def test_windows_lines_and_a_byte_order_mark(read):
  text = b'\xef\xbb\xbf' + tiny_font.NAMES.replace('\n', '\r\n').encode()
  assert read(text).of([(WAVE,)]) == read(tiny_font.NAMES).of([(WAVE,)])


BAD = {
  '': "must be a whole emoji-test.txt.* does not end in '#EOF'",
  '# nothing\n#EOF\n': 'must be an emoji-test.txt of Unicode: it has no emoji',
  tiny_font.NAMES[:700]: 'must be a whole emoji-test.txt.*it is cut',
  'x = 1\n#EOF\n': "line 1 = 'x = 1' must be like '1F600 ; fully-qualified",
  b'\xff\xfe1\0': 'cannot be read: .*utf-8',
}


@pytest.mark.parametrize('text', BAD)
def test_other_and_cut_files_are_refused(read, text):
  with pytest.raises(ValueError, match=BAD[text]) as error:
    read(text)
  assert 'names = ' in str(error.value)


def test_a_file_that_is_not_there_says_how_to_install_it(tmp_path):
  with pytest.raises(ValueError, match='install unicode-data.*names = none'):
    read_names(str(tmp_path / 'none.txt'))
  with pytest.raises(ValueError, match='cannot be read: .*(directory|regular)'):
    read_names(str(tmp_path))
