"""The style of the page: one set of CSS variables for light paper, one for dark; print is light."""
from .plot import COLOURS

DARK = {
    "ink": "#e6e9ed",
    "faint": "#98a2ae",
    "rule": "#333b45",
    "band": "#262d36",
    "mass": "#6d8bff",
    "plus": "#d9690a",
    "minus": "#2f95d0",
    "embedding": "#f0a35e",
    "older": "#c6a0e8",
    "recent": "#4fc9c0",
    "current": "#aab4bf",
}
LIGHT_PAGE = {
    "paper": "#ffffff",
    "raised": "#f5f7f9",
    "link": "#0a5bb5",
    "failure": "#b42318",
    "failure-paper": "#fdecea",
    "warning": "#8a5a00",
    "warning-paper": "#fdf3dc",
    "good": "#0b6b45",
}
DARK_PAGE = {
    "paper": "#14181d",
    "raised": "#1c2229",
    "link": "#7db5ff",
    "failure": "#ff9a90",
    "failure-paper": "#3a1a18",
    "warning": "#f2c46d",
    "warning-paper": "#332a14",
    "good": "#63d3a0",
}

RULES = """
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--font);
  overflow-wrap: break-word;
}
main { max-width: 1000px; margin: 0 auto; padding: 24px 20px 80px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; text-wrap: balance; }
h2 {
  font-size: 1.25rem; line-height: 1.3; margin: 56px 0 12px; padding-top: 12px;
  border-top: 1px solid var(--rule);
}
h3 { font-size: 1rem; margin: 24px 0 4px; }
p { margin: 0 0 12px; max-width: 74ch; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px;
}
code { font: 0.87em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.subtitle, .paths, .notes { color: var(--faint); font-size: 0.9rem; }
.summary p { font-size: 1.12rem; line-height: 1.5; max-width: 68ch; }
nav ul {
  display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 20px 0 0; padding: 0;
  font-size: 0.9rem;
}
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 10px 24px;
  margin: 20px 0;
}
dt { color: var(--faint); font-size: 0.8rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.box {
  border-left: 4px solid var(--faint); background: var(--raised); border-radius: 4px; padding: 12px 16px;
  margin: 12px 0;
}
.box p { margin: 0; max-width: none; }
.box.failure { border-color: var(--failure); background: var(--failure-paper); }
.box.failure strong { color: var(--failure); }
.box.warning { border-color: var(--warning); background: var(--warning-paper); }
.box.warning strong { color: var(--warning); }
figure { margin: 16px 0 8px; }
figcaption { font-weight: 600; margin: 0 0 12px; max-width: 74ch; }
.panels { display: flex; flex-wrap: wrap; gap: 12px 24px; }
.panels > div { flex: 0 1 auto; max-width: 100%; overflow-x: auto; }
svg { display: block; height: auto; max-width: 100%; }
.scroll { overflow-x: auto; max-width: 100%; margin: 8px 0 12px; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); font-size: 0.85rem; padding: 0 0 6px; }
th, td {
  text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule);
}
thead th { color: var(--faint); font-weight: 600; font-size: 0.8rem; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody th code {
  display: inline-block; max-width: 26em; white-space: normal; font-weight: 400; color: var(--faint);
}
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 9em; }
th.number, td.number { text-align: right; }
details { margin: 8px 0; }
details > .scroll { max-height: 560px; overflow-y: auto; }
summary { cursor: pointer; color: var(--link); font-size: 0.9rem; width: fit-content; }
.verdict { font-weight: 600; }
.effect { color: var(--plus-text); }
.negligible { color: var(--minus-text); }
.inconclusive, .undecided, .not_run, .not_judged { color: var(--faint); }
.passed, .holds { color: var(--good); }
.failed, .fails { color: var(--failure); }
@media (max-width: 600px) {
  body { font-size: 15px; }
  main { padding: 16px 14px 60px; }
  h1 { font-size: 1.4rem; }
  h2 { margin-top: 40px; }
  .summary p { font-size: 1.03rem; }
  dl { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 8px 16px; }
}
@page { margin: 15mm; }
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 10pt; }
  h2 { margin-top: 20pt; }
  nav, details:not([open]) { display: none; }
  .panels { gap: 8px 12px; }
  .panels > div:not(:only-child) { flex: 0 1 calc(50% - 12px); }
  figure, .box, tr, dl { break-inside: avoid; }
  h2, figcaption, .notes { break-after: avoid; }
  .scroll, .panels > div { overflow: visible; max-height: none; }
  table { font-size: 8pt; }
  td { white-space: normal; }
}
"""


def variables(colours):
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def css():
    light = {**COLOURS, **LIGHT_PAGE, "plus-text": "#a84600", "minus-text": "#0d6396"}
    dark = {**DARK, **DARK_PAGE, "plus-text": "#ff9d52", "minus-text": "#63b9ee"}
    font = (
        '--font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial,'
        ' sans-serif;'
    )
    return (
        f":root {{ {font} {variables(light)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(dark)} }} }}\n{RULES}"
    )
