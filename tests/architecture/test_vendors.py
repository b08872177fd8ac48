"""A vendor is known by name to its own file, the register and the catalogue alone: everything else reads values."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from adapters.vendors.register import OPENAI_COMPATIBLE

PROJECT = Path(__file__).parents[2]
HOMES = (PROJECT / "adapters" / "vendors", PROJECT / "adapters" / "catalog")
RINGS = ("domain", "application", "adapters", "entrypoints")
DIALECTS = {"openai", "anthropic", "gemini"}
"""Vendors whose names are those of languages, too."""
WORDS = {"near", "together"}
"""Names that are words of English: they count where they stand alone."""
NAMES = {vendor.slug for vendor in OPENAI_COMPATIBLE} - DIALECTS
ANYWHERE = re.compile("|".join(sorted(NAMES - WORDS)), re.IGNORECASE)
FORMS_OF_KEYS = PROJECT / "entrypoints" / "logging.py"
"""Tells keys by how vendors begin them, to keep them out of the log."""
MODULES = [
    path
    for ring in RINGS
    for path in sorted((PROJECT / ring).rglob("*.py"))
    if path != FORMS_OF_KEYS and not any(path.is_relative_to(home) for home in HOMES)
]


def named_in(source: str) -> list[str]:
    """Vendors' names in code and in texts that it handles; comments and docstrings may give them as reasons."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[str] = []
    for node in ast.walk(tree):
        texts: list[str] = []
        match node:
            case ast.Constant(value=str(value)) if id(node) not in told:
                texts = [value]
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                texts = [name]
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                texts = [name]
            case ast.ImportFrom(module=str(module)):
                texts = [module, *(alias.name for alias in node.names)]
        found += [text for text in texts if ANYWHERE.search(text)]
        if isinstance(node, ast.Constant) and str(node.value).lower() in WORDS:
            found += texts
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_vendor_is_named_outside_its_home(path: Path) -> None:
    assert named_in(path.read_text()) == []


@pytest.mark.parametrize(
    "source", ['x = "groq"', "if slug == 'together': ...", "x_groq = 1", "from adapters.vendors.xai import XAI"]
)
def test_a_name_is_found(source: str) -> None:
    assert named_in(source)


@pytest.mark.parametrize("source", ['"""As xAI does."""', "# Groq\nx = 1", 'x = "put together"', "near = 1"])
def test_reasons_and_words_are_no_names(source: str) -> None:
    assert named_in(source) == []
