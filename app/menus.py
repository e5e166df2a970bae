"""The menu bar: every action in its menu, and the lists that change - recent files, languages, panels."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QMenuBar

from app.actions import AFTER_LINE, MENUS, Actions
from app.settings import Settings
from models.language import LANGUAGES, _


class Menus(QMenuBar):
    """``by_name``: the menus; ``recent`` is filled when it opens."""

    def __init__(
        self,
        actions: Actions,
        settings: Settings,
        *,
        language: str,
        panels: Iterable[QAction],
        open_path: Callable[[Path], None],
        set_language: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._settings, self._open_path = settings, open_path
        self.by_name: dict[str, QMenu] = {}
        for name, title in MENUS.items():
            menu = self.by_name[name] = self.addMenu(_(title))
            for action in actions.of_menu(name):
                if action.objectName() in AFTER_LINE:
                    menu.addSeparator()
                menu.addAction(action)
        self.recent = QMenu(_("Open Recent"), self)
        self.recent.aboutToShow.connect(self._fill_recent)
        self.by_name["file"].insertMenu(actions["export"], self.recent)
        languages = QMenu(_("Language"), self)
        for code, name in LANGUAGES.items():
            entry = languages.addAction(name)
            entry.setCheckable(True)
            entry.setChecked(code == language)
            entry.triggered.connect(lambda _on, code=code: set_language(code))
        self.by_name["view"].insertMenu(actions["full_screen"], languages)
        shown = self.by_name["view"].addMenu(_("Panels"))
        for panel in panels:
            shown.addAction(panel)

    def _fill_recent(self) -> None:
        self.recent.clear()
        for name in self._settings.recent_files:
            entry = self.recent.addAction(name)
            entry.setEnabled(Path(name).exists())
            entry.triggered.connect(lambda _on=False, name=name: self._open_path(Path(name)))
        if not self._settings.recent_files:
            self.recent.addAction(_("Nothing yet")).setEnabled(False)
