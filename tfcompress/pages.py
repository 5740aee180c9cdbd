"""Tables as a page of HTML that needs no other file."""

import html

from tfcompress.tables import is_number, show

STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #222; margin: 2em auto;
  max-width: 88em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; white-space: nowrap; }
th { text-align: left; border-bottom: 2px solid #888; background: #fff;
  position: sticky; top: 0; }
th, td { padding: .2em .8em; }
td { border-bottom: 1px solid #ddd; }
tr:hover td { background: #f4f7fb; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.share { min-width: 5em; background: linear-gradient(
  to right, #b9d3ee var(--share), transparent var(--share)); }
"""


def render(title, sections):
    """A page of tables.

    Args:
        title: heading of the page.
        sections: list of `(heading, headers, rows)`, the rows as `table` takes
            them; a cell that ends with "%" also gets a bar.

    Returns:
        The text of an HTML file.
    """
    body = "\n".join(
        f"<h2>{html.escape(heading)}</h2>\n{_table(headers, rows)}"
        for heading, headers, rows in sections
    )
    title = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _table(headers, rows):
    rows = [list(row) for row in rows]
    right = [
        any(is_number(row[i]) for row in rows) for i in range(len(headers))
    ]
    head = "".join(
        f'<th class="{"number" if r else "text"}">{html.escape(h)}</th>'
        for h, r in zip(headers, right, strict=True)
    )
    lines = "\n".join(
        "<tr>" + "".join(map(_cell, row, right)) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def _cell(cell, right):
    text = html.escape(show(cell))
    if not right:
        return f"<td>{text}</td>"
    if not text.endswith("%"):
        return f'<td class="number">{text}</td>'
    share = min(100.0, float(text.removesuffix("%")))
    return f'<td class="number share" style="--share:{share}%">{text}</td>'
