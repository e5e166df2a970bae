"""What Qt itself says and how its letters look, in the language of the program."""

from PySide6.QtCore import QLibraryInfo, QTranslator
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QApplication


def prepare_qt_for(code: str) -> None:
    """Qt's own texts - the buttons of its dialogs, the menus of its fields - and its letters in a language."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    font = app.font()
    # Hinting makes the dense characters of Chinese look bold, bright on dark above all.
    is_dense = code.startswith("zh")
    font.setHintingPreference(
        QFont.HintingPreference.PreferNoHinting if is_dense else QFont.HintingPreference.PreferDefaultHinting
    )
    app.setFont(font)
    for old in app.findChildren(QTranslator):
        app.removeTranslator(old)
        old.deleteLater()
    translator = QTranslator(app)
    if translator.load(f"qtbase_{code}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        app.installTranslator(translator)
