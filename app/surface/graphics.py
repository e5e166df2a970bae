"""What this machine can draw in 3D."""

from dataclasses import dataclass
from functools import cache

from PySide6.QtGui import QOffscreenSurface, QOpenGLContext

from models.language import _

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swiftshader", "gdi generic", "software", "basic render")
OLDEST = (2, 1)


@dataclass(frozen=True)
class Graphics:
    """``renderer`` as the driver names it; ``is_software``: the processor draws, there is no graphics card.

    ``fault`` says why drawing is impossible, in words for the user; empty where it works.
    """

    renderer: str = ""
    is_software: bool = True
    fault: str = ""


@cache
def graphics() -> Graphics:
    """Found out once, with an OpenGL context of its own; needs a QApplication."""
    try:
        # Here and not above: without the system's OpenGL library this import fails.
        from OpenGL import GL
    except ImportError as error:
        return Graphics(fault=str(error))
    context = QOpenGLContext()
    if not context.create():
        return Graphics(fault=_("OpenGL could not be started."))
    surface = QOffscreenSurface()
    surface.create()
    if not context.makeCurrent(surface):
        return Graphics(fault=_("OpenGL could not be started."))
    try:
        name = (GL.glGetString(GL.GL_RENDERER) or b"").decode(errors="replace")
    finally:
        context.doneCurrent()
    version = context.format().version()
    if not context.isOpenGLES() and tuple(version) < OLDEST:
        return Graphics(
            name, fault=_("OpenGL {version} is too old, 2.1 is needed.").format(version=".".join(map(str, version)))
        )
    return Graphics(name, is_software=any(word in name.lower() for word in SOFTWARE_RENDERERS))
