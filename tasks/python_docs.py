"""An English text from what every Python has, so that the text tasks need no download.

    python -m tasks.python_docs FILE

The topics of Python's help, and the docstrings of the standard library's modules, classes and
functions, each once, in a fixed shuffled order; folded to the 27 symbols of text8. The only module
imported for its text is ``pydoc_data.topics``: docstrings are parsed from the sources. The text
depends on the version of Python: report it with any number that is measured on it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import platform
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from tasks.text import fold, unfold

#: Shorter ones are mostly names.
SHORTEST = 80


def docstrings() -> Iterator[str]:
    """The docstrings of every module of the standard library, of its classes and functions."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        inside = file.relative_to(library).parts
        if {"site-packages", "dist-packages", "test", "tests", "idle_test"} & set(inside):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, OSError):  # kept in the library as a bad example
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield inspect.cleandoc(ast.get_docstring(node) or "")


def text() -> str:
    """The whole text."""
    documents = sorted({*topics.values(), *docstrings()})
    documents = [document for document in documents if len(document) >= SHORTEST]
    random.Random(2014).shuffle(documents)  # noqa: S311 - so that all splits are alike
    return unfold(fold("\n\n".join(documents).encode("utf-8", "replace")))


def main() -> None:
    """Writes the text, and prints its size and checksum."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tasks.python_docs FILE")
    written = text()
    Path(sys.argv[1]).write_text(written, encoding="utf-8")
    words = written.split()
    print(
        f"{sys.argv[1]}: {len(written):,} characters, {len(words):,} words, {len(set(words)):,} "
        f"distinct; Python {platform.python_version()}, sha256 "
        f"{hashlib.sha256(written.encode()).hexdigest()[:16]}"
    )


if __name__ == "__main__":
    main()
