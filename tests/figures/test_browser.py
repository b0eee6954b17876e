"""report.html in headless Chromium: sliders, sorting, no request, no error.

It needs `pip install -e '.[browser]'` and a Chromium, such as Debian's.
"""

import os
import shutil

import pytest
from figures.test_page import NASTY, PAGE, ROWS, TAG, make_run, row

from flowdistill.figures.page import refresh

playwright = pytest.importorskip('playwright.sync_api')
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(BROWSER is None, reason='there is no Chromium'),
]
WIDTHS = (360, 800, 1400)
# The ratio of contrast that WCAG 2.2 asks of text, of all texts of a page.
CONTRAST = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = parts(text).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return parts(colour)[3] === 0 ? behind(node.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll('body *')].filter((node) =>
    [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const seen = (node) => !['SCRIPT', 'title'].includes(node.tagName);
  return Math.min(...texts.filter(seen).map((node) => {
    const style = getComputedStyle(node);
    const ink = node.tagName === 'text' ? style.fill : style.color;
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => x - y);
    return (b + 0.05) / (a + 0.05);
  }));
}"""


@pytest.fixture(scope='module')
def chromium():
  arguments = ['--no-sandbox'] if os.getuid() == 0 else []
  with playwright.sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=BROWSER, args=arguments)
    yield browser
    browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
  """Opens the page of a run; fails at errors, and at requests of others."""
  faults, contexts = [], []

  def open_page(workdir, width=800, scheme='light'):
    refresh(workdir)
    address = (workdir / PAGE).as_uri()
    size = {'width': width, 'height': 800}
    context = chromium.new_context(viewport=size, color_scheme=scheme)
    contexts.append(context)
    page = context.new_page()
    page.on('console', lambda message: faults.append(message.text))
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.on('dialog', lambda dialog: faults.append('a dialog'))
    page.on(
      'request',
      lambda request: (
        request.url.startswith(('data:', address)) or faults.append(request.url)
      ),
    )
    page.goto(address)
    return page

  yield open_page
  for context in contexts:
    context.close()
  assert faults == []


def shown(page):
  """Title and settings of each panel -> the picture that is visible."""
  return {
    panel.query_selector('figcaption').inner_text(): panel.query_selector(
      'img:not([hidden])'
    ).get_attribute('src')
    for panel in page.query_selector_all('.panel')
  }


def column(page, title):
  """The texts of a column of the table."""
  titles = page.locator('th button').all_inner_texts()
  (k,) = [k for k, text in enumerate(titles) if text.startswith(title)]
  return page.locator(f'tbody td:nth-child({k + 1})').all_inner_texts()


def test_sliders_choose_what_was_drawn(opened, tmp_path):
  page = opened(make_run(tmp_path / 'run'))
  first = shown(page)
  assert [*first] == [
    f'{model}, euler, guidance 1.5 step 2, NFE 1'
    for model in ('student', 'teacher')
  ]
  nfe = page.get_by_label('NFE', exact=True)
  nfe.focus()
  page.keyboard.press('ArrowRight')
  assert nfe.get_attribute('aria-valuetext') == '2'
  second = shown(page)
  assert [*second] == [text.replace('NFE 1', 'NFE 2') for text in first]
  assert not {*first.values()} & {*second.values()}
  page.get_by_label('Checkpoint (step)').fill('0')
  assert next(iter(shown(page))) == 'student, euler, guidance 1.5 step 1, NFE 2'
  sizes = page.eval_on_selector_all(
    'img:not([hidden])', 'all => all.map((image) => image.naturalWidth)'
  )
  assert sizes == [10 * 9 - 1] * 2  # they are decoded


def test_a_column_is_sorted_by_mouse_and_keyboard(opened, tmp_path):
  rows = [
    *ROWS,
    row('student', 8, 1.0, frechet_digits='nan'),
    row('student', 16, 10.5),
  ]
  rows += [{'model': 'student', 'step': 2, 'flow_loss': 1.0}]
  page = opened(make_run(tmp_path / 'run', rows=rows))
  heading = page.locator('th', has_text='Fréchet')
  heading.locator('button').click()
  assert heading.get_attribute('aria-sort') == 'ascending'
  rising = ['1.00', '2.00', '2.00', '4.00', '8.00', '10.50', 'nan', '']
  assert column(page, 'Fréchet') == rising
  page.keyboard.press('Enter')
  assert heading.get_attribute('aria-sort') == 'descending'
  assert column(page, 'Fréchet') == [*rising[5::-1], 'nan', '']
  page.locator('th button', has_text='Model').press('Space')
  assert page.locator('[aria-sort]').count() == 1
  assert column(page, 'Model') == sorted(column(page, 'Model'))


@pytest.mark.parametrize('name', [TAG, NASTY])
def test_names_do_nothing(opened, tmp_path, name):
  rows = [row(name, n, 2.0, options=name, reference=name) for n in (1, 2)]
  page = opened(make_run(tmp_path / name.replace('/', '_'), rows=rows))
  assert page.locator('script').count() == 1
  assert name in column(page, 'Model') or name in page.content()


def test_the_policy_of_the_page_forbids_requests(opened, tmp_path, chromium):
  workdir = make_run(tmp_path / 'run')
  refresh(workdir)
  page = chromium.new_page()
  refused = []
  page.on('console', lambda message: refused.append(message.text))
  page.goto((workdir / PAGE).as_uri())
  page.evaluate("() => { new Image().src = 'https://example.org/x.png'; }")
  page.wait_for_function('() => true')
  page.close()
  assert 'Content Security Policy' in refused[0]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', WIDTHS)
def test_it_fits_and_is_legible(opened, tmp_path, width, scheme):
  long = 'a_long_name_without_a_blank_' * 5
  rows = [*ROWS, row('student', 8, 1.0, options=long, reference=long)]
  rows += [
    row('student', n, n, precision_x=0.9, recall_x=n / 9, kid=n, kid_bias=0.1)
    for n in (1, 2)
  ]
  page = opened(make_run(tmp_path / 'run', rows=rows), width, scheme)
  assert page.evaluate('document.documentElement.scrollWidth') <= width
  assert page.evaluate(CONTRAST) >= 4.5
  (chart,) = page.locator('.chart', has_text='recall (x)').all()
  dashes = 'all => all.map((path) => getComputedStyle(path).strokeDasharray)'
  assert chart.locator('svg[role] .line').evaluate_all(dashes) == [
    *('none', '6px, 4px'),
  ]
