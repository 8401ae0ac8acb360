# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes matrices as OpenCV's documentation of FileStorage shows them in YAML, XML and JSON."""

import json

import numpy as np


def yaml_matrix(name: str, matrix, indent: str = "", per_line: int = 4) -> str:
    """Return a matrix as OpenCV breaks it: a few numbers a line, 0. for 0."""
    rows, columns = np.atleast_2d(matrix).shape
    words = [
        f"{value!r}".removesuffix("0") if value == int(value) else repr(value) for value in map(float, np.ravel(matrix))
    ]
    lines = [", ".join(words[start : start + per_line]) for start in range(0, len(words), per_line)]
    data = f",\n{indent}       ".join(lines)
    return (
        f"{indent}{name}: !!opencv-matrix\n{indent}   rows: {rows}\n{indent}   cols: {columns}\n{indent}   dt: d\n"
        f"{indent}   data: [ {data} ]\n"
    )


def yaml(matrices: dict, scalars: dict | None = None) -> str:
    """Return a YAML file of matrices and other values."""
    lines = [f"{name}: {value}\n" for name, value in (scalars or {}).items()]
    return "%YAML:1.0\n---\n" + "".join(lines) + "".join(yaml_matrix(*item) for item in matrices.items())


def xml(matrices: dict, scalars: dict | None = None) -> str:
    """Return an XML file of matrices and other values."""
    parts = [f"<{name}>{value}</{name}>" for name, value in (scalars or {}).items()]
    for name, matrix in matrices.items():
        rows, columns = np.atleast_2d(matrix).shape
        data = " ".join(repr(float(value)) for value in np.ravel(matrix))
        parts.append(
            f'<{name} type_id="opencv-matrix"><rows>{rows}</rows><cols>{columns}</cols><dt>d</dt>\n'
            f"<data>\n{data}</data></{name}>"
        )
    return '<?xml version="1.0"?>\n<opencv_storage>\n' + "\n".join(parts) + "\n</opencv_storage>\n"


def json_text(matrices: dict, scalars: dict | None = None) -> str:
    """Return a JSON file of matrices and other values."""
    document = dict(scalars or {})
    for name, matrix in matrices.items():
        rows, columns = np.atleast_2d(matrix).shape
        data = np.ravel(matrix).tolist()
        document[name] = {"type_id": "opencv-matrix", "rows": rows, "cols": columns, "dt": "d", "data": data}
    return json.dumps(document, indent=4)
