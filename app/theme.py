"""Colours, the one style sheet of the application, and icons.

Grey everywhere; colour says state only: the accent marks the next action, red STOP and faults,
amber "look here". Widgets carry a ``role`` property and no style of their own.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontInfo, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QWidget

ICONS = Path(str(files("resources"))) / "icons"

CHINESE_FONTS = ("WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "Noto Sans CJK SC")


@dataclass(frozen=True)
class Theme:
    """Colours by what they are for."""

    name: str
    window: str
    panel: str
    raised: str
    field: str
    border: str
    text: str
    quiet: str
    disabled: str
    accent: str
    on_accent: str
    red: str
    amber: str


DARK = Theme(
    "dark", window="#1b1b1c", panel="#232325", raised="#313134", field="#18181a", border="#3d3d41", text="#e8e8ea",
    quiet="#a3a3aa", disabled="#66666c", accent="#3d8bfd", on_accent="#ffffff", red="#d93a3f", amber="#e8a317",
)  # fmt: skip
LIGHT = Theme(
    "light", window="#ececee", panel="#f7f7f8", raised="#ffffff", field="#ffffff", border="#c9c9cf", text="#1d1d20",
    quiet="#5c5c64", disabled="#a5a5ad", accent="#1668dc", on_accent="#ffffff", red="#c9252b", amber="#9a6700",
)  # fmt: skip
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}

_current = DARK


def current() -> Theme:
    """The theme in use."""
    return _current


def apply_theme(app: QApplication, name: str) -> Theme:
    """Dress the whole application; may be called again at any time."""
    global _current
    _current = THEMES[name]
    app.setStyle("Fusion")
    font = app.font()
    # Named, because what the system falls back to for Chinese may be a bold or a Japanese face.
    font.setFamilies([QFontInfo(font).family(), *CHINESE_FONTS])
    app.setFont(font)
    app.setPalette(_palette(_current))
    app.setStyleSheet(_style_sheet(_current))
    return _current


def set_role(widget: QWidget, role: str) -> None:
    """Say what a widget is for; the style sheet decides how that looks."""
    if widget.property("role") == role:
        return
    widget.setProperty("role", role)
    widget.style().unpolish(widget)
    widget.style().polish(widget)


def tabular(font: QFont) -> QFont:
    """The same font with digits of one width, so that changing numbers do not jump."""
    font = QFont(font)
    if hasattr(QFont, "Tag"):
        font.setFeature(QFont.Tag("tnum"), 1)
    return font


def icon(name: str, color: str | None = None) -> QIcon:
    """An icon of ours drawn in the colour of the text, greyed where disabled."""
    theme = current()
    result = QIcon()
    for mode, shade in ((QIcon.Mode.Normal, color or theme.text), (QIcon.Mode.Disabled, theme.disabled)):
        for size in (16, 20, 32, 48):
            result.addPixmap(_pixmap(name, shade, size), mode)
    return result


@lru_cache(maxsize=512)
def _pixmap(name: str, color: str, size: int) -> QPixmap:
    svg = (ICONS / f"{name}.svg").read_text(encoding="utf-8").replace("currentColor", color)
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, size, size))
    painter.end()
    return pixmap


def _palette(theme: Theme) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    for which, color in (
        (role.Window, theme.panel), (role.Base, theme.field), (role.AlternateBase, theme.panel),
        (role.Button, theme.raised), (role.ToolTipBase, theme.raised), (role.Highlight, theme.accent),
        (role.Mid, theme.border), (role.Dark, theme.window), (role.Light, theme.raised), (role.Midlight, theme.border),
        (role.Text, theme.text), (role.WindowText, theme.text), (role.ButtonText, theme.text),
        (role.ToolTipText, theme.text), (role.BrightText, theme.red), (role.HighlightedText, theme.on_accent),
        (role.PlaceholderText, theme.disabled), (role.Link, theme.accent), (role.Accent, theme.accent),
    ):  # fmt: skip
        palette.setColor(which, QColor(color))
    for which in (role.Text, role.WindowText, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, which, QColor(theme.disabled))
    return palette


def _style_sheet(t: Theme) -> str:
    icons = ICONS.as_posix()
    return f"""
QMainWindow, QStackedWidget {{ background: {t.window}; }}
QMainWindow::separator {{ background: {t.window}; width: 5px; height: 5px; }}
QMainWindow::separator:hover {{ background: {t.accent}; }}
QSplitter::handle {{ background: {t.window}; }}
QToolTip {{ background: {t.raised}; color: {t.text}; border: 1px solid {t.border}; padding: 4px 6px; }}
QMenuBar {{ background: transparent; spacing: 0; }}
QMenuBar::item {{ padding: 6px 9px; border-radius: 4px; background: transparent; }}
QMenuBar::item:selected {{ background: {t.raised}; }}
QMenu {{ background: {t.panel}; border: 1px solid {t.border}; padding: 4px; }}
QMenu::item {{ padding: 5px 28px 5px 26px; border-radius: 4px; }}
QMenu::item:selected {{ background: {t.accent}; color: {t.on_accent}; }}
QMenu::item:disabled {{ color: {t.disabled}; background: transparent; }}
QMenu::separator {{ height: 1px; background: {t.border}; margin: 4px 8px; }}
QMenu::icon {{ padding-left: 6px; }}
QDockWidget {{ color: {t.quiet}; titlebar-close-icon: url({icons}/close-grey.svg);
  titlebar-normal-icon: url({icons}/float-grey.svg); }}
QDockWidget::title {{ background: {t.panel}; padding: 6px 10px; text-align: left; }}
QDockWidget > QWidget {{ background: {t.panel}; }}
QScrollArea {{ border: none; background: {t.panel}; }}
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar::handle:vertical {{ background: {t.border}; border-radius: 4px; min-height: 30px; margin: 1px; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; }}
QScrollBar::handle:horizontal {{ background: {t.border}; border-radius: 4px; min-width: 30px; margin: 1px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QPushButton, QToolButton {{ background: {t.raised}; border: 1px solid {t.border}; border-radius: 4px;
  padding: 4px 10px; min-height: 18px; }}
QToolButton {{ padding: 4px; }}
QPushButton:hover, QToolButton:hover {{ border-color: {t.quiet}; }}
QPushButton:pressed, QToolButton:pressed {{ background: {t.border}; }}
QPushButton:focus, QToolButton:focus {{ border-color: {t.accent}; outline: none; }}
QPushButton:disabled, QToolButton:disabled {{ color: {t.disabled}; background: {t.panel}; }}
QPushButton:checked, QToolButton:checked {{ background: {t.border}; border-color: {t.quiet}; }}
QPushButton:checked:disabled, QToolButton:checked:disabled {{ background: {t.raised}; border-color: {t.border}; }}
QPushButton[role="primary"] {{ background: {t.accent}; color: {t.on_accent}; border-color: {t.accent};
  font-weight: 600; padding: 6px 14px; }}
QPushButton[role="primary"]:hover {{ border-color: {t.text}; }}
QPushButton[role="primary"]:disabled {{ background: {t.raised}; color: {t.disabled}; border-color: {t.border}; }}
QPushButton[role="stop"] {{ background: {t.red}; color: #ffffff; border: 2px solid {t.red}; border-radius: 5px;
  font-weight: 700; padding: 3px 20px; }}
QPushButton[role="stop"]:hover {{ border-color: #ffffff; }}
QPushButton[role="stopped"] {{ background: transparent; color: {t.red}; border: 2px solid {t.red}; border-radius: 5px;
  font-weight: 700; padding: 3px 12px; }}
QPushButton[role="link"], QToolButton[role="flat"] {{ background: transparent; border: none; color: {t.accent};
  padding: 2px 4px; text-align: left; }}
QToolButton[role="flat"] {{ color: {t.text}; }}
QToolButton[role="flat"]:hover {{ background: {t.raised}; }}
QPushButton[role="link"]:hover {{ text-decoration: underline; }}
QPushButton[role="link"]:disabled {{ color: {t.disabled}; background: transparent; }}
QPushButton[role="tab"] {{ background: transparent; border: none; border-bottom: 2px solid transparent;
  border-radius: 0; color: {t.quiet}; padding: 7px 14px 6px 14px; }}
QPushButton[role="tab"]:hover {{ color: {t.text}; }}
QPushButton[role="tab"]:checked {{ color: {t.text}; border-bottom: 2px solid {t.accent}; background: transparent; }}
QPushButton[role="segment"] {{ padding: 4px 6px; }}
QToolButton[role="section"] {{ background: transparent; border: none; color: {t.text}; font-weight: 600;
  padding: 4px 2px; text-align: left; }}
QLineEdit, QAbstractSpinBox, QComboBox {{ background: {t.field}; border: 1px solid {t.border}; border-radius: 4px;
  padding: 3px 6px; min-height: 18px; selection-background-color: {t.accent}; }}
/* Zero width instead of "no buttons": with those Qt gives the text a width of one pixel. */
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ width: 0; height: 0; border: none; }}
QAbstractSpinBox QLineEdit {{ background: transparent; border: none; padding: 0 7px; min-height: 0; }}
QLineEdit:focus, QAbstractSpinBox:focus, QComboBox:focus {{ border-color: {t.accent}; }}
QLineEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled {{ color: {t.disabled}; background: {t.panel}; }}
QComboBox::drop-down {{ border: none; width: 20px; }}
QComboBox::down-arrow {{ image: url({icons}/chevron-down-grey.svg); width: 12px; height: 12px; }}
QComboBox QAbstractItemView {{ background: {t.panel}; border: 1px solid {t.border}; outline: none;
  selection-background-color: {t.accent}; selection-color: {t.on_accent}; }}
QCheckBox, QRadioButton {{ spacing: 7px; }}
QCheckBox::indicator, QRadioButton::indicator {{ width: 14px; height: 14px; border: 1px solid {t.quiet};
  background: {t.field}; border-radius: 3px; }}
QRadioButton::indicator {{ border-radius: 8px; }}
QCheckBox::indicator:checked {{ background: {t.accent}; border-color: {t.accent};
  image: url({icons}/check-white.svg); }}
QRadioButton::indicator:checked {{ border: 5px solid {t.accent}; width: 6px; height: 6px; background: #ffffff; }}
QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ border-color: {t.disabled}; }}
QSlider::groove:horizontal {{ height: 4px; background: {t.border}; border-radius: 2px; }}
QSlider::handle:horizontal {{ width: 14px; margin: -5px 0; border-radius: 7px; background: {t.quiet}; }}
QSlider::handle:horizontal:hover {{ background: {t.text}; }}
QProgressBar {{ background: {t.border}; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }}
QProgressBar::chunk {{ background: {t.accent}; border-radius: 3px; }}
QTabWidget::pane {{ border: none; }}
QTabBar {{ background: {t.panel}; }}
QTabBar::tab {{ background: transparent; color: {t.quiet}; padding: 6px 12px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {t.text}; border-bottom: 2px solid {t.accent}; }}
QListWidget {{ background: {t.panel}; border: none; outline: none; }}
QDialog[role="page"] {{ border: 1px solid {t.border}; }}
QTreeWidget {{ background: {t.field}; border: 1px solid {t.border}; border-radius: 4px; outline: none; }}
QTreeWidget::item {{ padding: 4px; }}
QListWidget::item {{ padding: 6px 10px; border-radius: 4px; }}
QListWidget::item:selected {{ background: {t.accent}; color: {t.on_accent}; }}
QHeaderView::section {{ background: {t.panel}; border: none; padding: 4px 8px; color: {t.quiet}; }}
QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
QLabel {{ background: transparent; }}
QLabel[role="hint"] {{ color: {t.quiet}; }}
QLabel[role="amber"] {{ color: {t.amber}; }}
QLabel[role="red"] {{ color: {t.red}; }}
QLabel[role="heading"] {{ font-weight: 600; }}
QLabel[role="title"] {{ font-size: 20px; font-weight: 600; }}
QLabel[role="readout"] {{ font-size: 20px; font-weight: 600; }}
QWidget[role="panel"] {{ background: {t.panel}; }}
QWidget[role="picture"] {{ background: {t.window}; }}
QFrame[role="top"] {{ background: {t.panel}; border-bottom: 1px solid {t.border}; }}
QFrame[role="status"] {{ background: {t.panel}; border-top: 1px solid {t.border}; }}
QFrame[role="line"] {{ background: {t.border}; max-height: 1px; min-height: 1px; border: none; }}
QFrame[role="card"] {{ background: {t.panel}; border: 1px solid {t.border}; border-radius: 8px; }}
QFrame[role="bar-fault"] {{ background: {t.panel}; border: none; border-left: 4px solid {t.red};
  border-bottom: 1px solid {t.border}; }}
QFrame[role="bar-look"] {{ background: {t.panel}; border: none; border-left: 4px solid {t.amber};
  border-bottom: 1px solid {t.border}; }}
QFrame[role="bar-info"] {{ background: {t.panel}; border: none; border-left: 4px solid {t.accent};
  border-bottom: 1px solid {t.border}; }}
"""
