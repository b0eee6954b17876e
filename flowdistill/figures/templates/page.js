'use strict';

// Sliders: each panel shows the shot that was drawn nearest to their values.
function distance(at, chosen) {
  let sum = 0;
  for (const { name, values, place } of chosen) {
    if (name in at) sum += Math.abs(values.indexOf(at[name]) - place);
  }
  return sum;
}

function settings(at, chosen) {
  return chosen
    .filter(({ name }) => name in at)
    .map(({ name, short }) => `${short} ${at[name]}`)
    .join(', ');
}

function show(panel, chosen) {
  let best = null;
  for (const shot of panel.querySelectorAll('img')) {
    for (const at of JSON.parse(shot.dataset.at)) {
      const far = distance(at, chosen);
      if (best === null || far < best.far) best = { shot, at, far };
    }
  }
  for (const shot of panel.querySelectorAll('img')) {
    shot.hidden = shot !== best.shot;
  }
  const text = settings(best.at, chosen);
  const output = panel.querySelector('.drawn');
  output.textContent = text && best.far ? `nearest drawn: ${text}` : text;
  output.classList.toggle('elsewhere', best.far > 0);
  best.shot.alt = `${panel.querySelector('figcaption').textContent}`.trim();
}

function update(viewer) {
  const chosen = [...viewer.querySelectorAll('input')].map((input) => {
    const values = JSON.parse(input.dataset.values);
    const place = Number(input.value);
    input.parentElement.querySelector('output').textContent = values[place];
    input.setAttribute('aria-valuetext', String(values[place]));
    return { name: input.name, short: input.dataset.short, values, place };
  });
  for (const panel of viewer.querySelectorAll('.panel')) show(panel, chosen);
}

for (const viewer of document.querySelectorAll('.viewer')) {
  viewer.addEventListener('input', () => update(viewer));
  update(viewer);
}

// Sorting: numbers by their value, then texts; empty cells are always last.
function compare(a, b, sign) {
  if (!a.textContent || !b.textContent) {
    return Number(!a.textContent) - Number(!b.textContent);
  }
  const [x, y] = [a, b].map((cell) => parseFloat(cell.dataset.key));
  const [p, q] = [Number.isNaN(x), Number.isNaN(y)];
  if (p !== q) return Number(p) - Number(q);
  if (!p) return sign * (x - y || 0);
  return sign * a.textContent.localeCompare(b.textContent, 'en', { numeric: true });
}

function sort(heading) {
  const column = heading.cellIndex;
  const body = heading.closest('table').tBodies[0];
  const rising = heading.getAttribute('aria-sort') !== 'ascending';
  for (const other of heading.parentElement.cells) {
    other.removeAttribute('aria-sort');
  }
  heading.setAttribute('aria-sort', rising ? 'ascending' : 'descending');
  const rows = [...body.rows];
  rows.sort((a, b) => compare(a.cells[column], b.cells[column], rising ? 1 : -1));
  body.append(...rows);
}

for (const heading of document.querySelectorAll('th')) {
  heading.querySelector('button').addEventListener('click', () => sort(heading));
}
