"""Translation of every text that a person sees, by GNU gettext catalogues.

Write ``_("text")`` with a literal, and ``_("{n} frames").format(n=n)`` for texts with values, so that
``make translations`` finds them. Texts are looked up when they are shown: a module-level constant is
marked with :func:`N_` and passed through :func:`_` at the point of use.
"""

import gettext
import locale
import os
from importlib.resources import files

LANGUAGES = {"en": "English", "zh_CN": "简体中文"}

_catalogue: gettext.NullTranslations = gettext.NullTranslations()


def _(message: str) -> str:
    """The message in the language in use."""
    return _catalogue.gettext(message)


def N_(message: str) -> str:
    """Mark a constant for translation without translating it yet."""
    return message


def use_language(code: str | None) -> str:
    """Switch to ``code`` (a key of LANGUAGES), or to the system's language where None; return the code in use."""
    global _catalogue
    code = code or system_language()
    if code not in LANGUAGES:
        code = "en"
    folder = str(files("resources") / "translations")
    _catalogue = gettext.translation("reliefscope", folder, languages=[code], fallback=True)
    return code


def system_language() -> str:
    """The language of the user's environment, ``en`` where it is not one of ours."""
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    if not name:
        name = locale.getlocale()[0] or ""
    return "zh_CN" if name.lower().startswith(("zh", "chinese")) else "en"
