"""Every text in the source stands in the Chinese catalogue, translated, and the compiled file is up to date."""

import string
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from models import language
from models.language import _, use_language

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "resources/translations/zh_CN/LC_MESSAGES/reliefscope.po"


def texts_in_source() -> set[str]:
    keywords = {"_": None, "N_": None}
    found = set()
    for package in ("app", "hardware", "models"):
        for _file, _line, message, _comments, _context in extract_from_dir(ROOT / package, keywords=keywords):
            found.add(message)
    return found


def fields(text: str) -> set[str]:
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


@pytest.fixture(scope="module")
def chinese():
    with CATALOGUE.open("rb") as file:
        return read_po(file)


def test_every_text_is_translated(chinese):
    untranslated = {text for text in texts_in_source() if not (chinese.get(text) and chinese.get(text).string)}
    assert not untranslated, "run 'make translations' and translate these"


def test_no_translation_is_fuzzy_or_left_over(chinese):
    assert not [message.id for message in chinese if message.fuzzy and message.id]
    assert {message.id for message in chinese if message.id} <= texts_in_source()


def test_translations_keep_the_values(chinese):
    """'{n} frames' must not lose or rename its {n}: format() would fail in front of the user."""
    wrong = [m.id for m in chinese if m.id and "{" in m.id and fields(m.id) != fields(m.string)]
    assert not wrong


def test_compiled_catalogue_is_current(chinese):
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = read_mo(file)
    assert {m.id: m.string for m in compiled if m.id} == {m.id: m.string for m in chinese if m.id and m.string}


def test_use_language_switches_and_falls_back():
    text = "Sum-modified Laplacian"
    try:
        assert use_language("zh_CN") == "zh_CN"
        assert _(text) != text
        assert use_language("xx") == "en"
        assert _(text) == text
    finally:
        use_language("en")


@pytest.mark.parametrize(
    ("value", "code"), [("zh_CN.UTF-8", "zh_CN"), ("zh_TW", "zh_CN"), ("de_DE.UTF-8", "en"), ("C", "en")]
)
def test_system_language_is_taken_from_the_environment(monkeypatch, value, code):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", value)
    assert language.system_language() == code
