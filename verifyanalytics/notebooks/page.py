"""A notebook as one HTML page without script or outside reference."""

from __future__ import annotations

import nbformat

_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:">
{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""


def html(notebook: nbformat.NotebookNode) -> str:
    """Turn a notebook with outputs into one HTML page without script or outside reference."""
    from nbconvert import HTMLExporter

    first = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "verifyanalytics")
    title = first.split("\n", 1)[0].lstrip("# ")
    exporter = HTMLExporter(raw_template=_TEMPLATE, embed_images=True)
    page: str
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return page
