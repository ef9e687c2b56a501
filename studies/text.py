"""Writes a plain English text from what every Python has, so that studies need no download.

    python studies/text.py PATH

The topics of Python's help, and the docstrings of the standard library's modules, classes and
functions, each once, in an order that does not depend on chance; folded to the 27 symbols of
text8. Nothing is imported but ``pydoc_data.topics``: docstrings are read from the sources. Another
version of Python has other words: say which one with any number that is measured on them.
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

from ntm.files import write_file
from tasks.text import fold, unfold

#: Shorter ones are mostly names.
SHORTEST = 80


def docstrings() -> Iterator[str]:
    """Of every module of the standard library that can be read, its classes and functions."""
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


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python studies/text.py PATH")
    documents = sorted({*topics.values(), *docstrings()})
    documents = [text for text in documents if len(text) >= SHORTEST]
    random.Random(2014).shuffle(documents)  # noqa: S311 - so that each part of it is like the others
    text = unfold(fold("\n\n".join(documents).encode("utf-8", "replace")))
    write_file(Path(sys.argv[1]), text)
    words = text.split()
    print(
        f"{sys.argv[1]}: {len(text):,} characters, {len(words):,} words, {len(set(words)):,} of "
        f"them different; Python {platform.python_version()}, sha256 "
        f"{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    )


if __name__ == "__main__":
    main()
