"""``python -m app.demo``: the simulated microscope captures an engraved roll.

With a display the window opens and does it before your eyes. Without one (or with ``--headless``) the same
runs here, says what it did and how far the result is from the known surface, and leaves the stack and a picture.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.terminal import complain, progress_bar
from hardware.profile import open_microscope
from hardware.sweep import SweepPlan, capture
from models.errors import ReliefscopeError
from models.evaluate import compare
from models.formats import PictureStyle, write_height_map
from models.language import _, use_language
from models.reconstruct import reconstruct
from models.storage import open_stack, save_reconstruction

PROFILE = "simulated"
PLAN = SweepPlan.by_step(6.0, -34.0, 1.5)
CONFIDENT = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit code is 0, or 2 where a file cannot be written."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    use_language(None)
    if "--headless" not in words and has_display():
        from app.application import run

        return int(run([], demo=True))
    try:
        headless(Path("demo"))
    except ReliefscopeError as error:
        complain(str(error))
        return 2
    return 0


def has_display() -> bool:
    """Whether a window can be opened; Windows and macOS always have a desktop."""
    return not sys.platform.startswith("linux") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))


def headless(folder: Path) -> None:
    """Capture, reconstruct, compare; writes ``engraved_roll.h5`` and ``engraved_roll.png`` into ``folder``.

    Files of an earlier demonstration are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, picture = folder / "engraved_roll.h5", folder / "engraved_roll.png"
    path.unlink(missing_ok=True)
    with open_microscope(PROFILE) as microscope:
        known = microscope.known_surface
        assert known is not None
        print(_("Reliefscope on the simulated microscope: an engraved gravure roll."))
        with progress_bar(_("Capturing")) as report:
            capture(
                microscope.axis,
                microscope.camera,
                PLAN,
                path,
                pixel_um=microscope.pixel_um,
                optics=microscope.optics,
                metadata={"profile": PROFILE},
                on_frame=lambda frame: report(frame.index + 1, PLAN.frame_count),
            )
    print(
        _("Captured {n} frames from {top:g} to {bottom:g} µm, {step:.3f} µm apart.").format(
            n=PLAN.frame_count, top=PLAN.top_um, bottom=PLAN.bottom_um, step=PLAN.step_um
        )
    )
    with progress_bar(_("Reconstructing")) as report:
        found = reconstruct(open_stack(path), progress=report)
    result = compare(found, known.height_um, step_um=PLAN.step_um, confidence_above=CONFIDENT)
    print(
        _(
            "Reconstructed with {method}: off by {error:.2f} µm on average ({steps:.2f} steps) "
            "over the {share:.0%} of the surface that it is confident of."
        ).format(
            method=found.method,
            error=result.mean_absolute_um,
            steps=result.mean_absolute_steps,
            share=result.coverage,
        )
    )
    save_reconstruction(path, found)
    write_height_map(found, picture, style=PictureStyle(hill_shade=True))
    print(_("Look at {picture}; the stack with its heights is {stack}.").format(picture=picture, stack=path))
    print(_("With a display, 'make demo' opens the window instead."))


if __name__ == "__main__":
    sys.exit(main())
