"""The command line: ``reliefscope --help`` is the map. Without a command it opens the window."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from app.terminal import INTERRUPTED, complain
from models.errors import ReliefscopeError
from models.language import LANGUAGES, _, use_language
from models.schema import software_version

# Typer raises the errors of the click it was built with; this is their common base in every version.
_CommandLineError = typer.BadParameter.__mro__[2]

BAD_INPUT = 2
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for input that cannot be used, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _say_what_can_be_said()
    try:
        words = _choose_language(words)
        if not words:
            return _open_window([])
        cli = _build()
        known = {entry.name for entry in (*cli.registered_commands, *cli.registered_groups)}
        if not words[0].startswith("-") and words[0] not in known:
            return _open_window(words)
        return int(cli(words, prog_name="reliefscope", standalone_mode=False) or 0)
    except ReliefscopeError as error:
        complain(str(error))
        return BAD_INPUT
    except _CommandLineError as error:
        complain(getattr(error, "format_message", error.__str__)())
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        complain(_("Stopped."))
        return INTERRUPTED


def _say_what_can_be_said() -> None:
    """A terminal that knows no "µ" shows a question mark; it is no reason to lose a result."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _choose_language(words: list[str]) -> list[str]:
    """Take ``--language CODE`` out of the words: every text below, the help included, depends on it."""
    code = None
    rest = []
    waiting = iter(words)
    for word in waiting:
        if word == "--language":
            code = next(waiting, "")
        elif word.startswith("--language="):
            code = word.partition("=")[2]
        else:
            rest.append(word)
    use_language(code)
    if code is not None and code not in LANGUAGES:
        raise ReliefscopeError(
            _("There is no language '{code}'. Languages: {codes}.").format(code=code, codes=", ".join(LANGUAGES))
        )
    return rest


def _build() -> typer.Typer:
    """All commands, with help in the language in use."""
    from app.commands import benchmark, calibrate, capture, devices, evaluate, info, label, reconstruct, scenes, train

    cli = typer.Typer(add_completion=False, rich_markup_mode="rich", no_args_is_help=False)

    @cli.callback(
        invoke_without_command=True,
        help=_(
            "Heights from focal stacks. Without a command the window opens: reliefscope, "
            "or reliefscope FILE to open a file in it."
        ),
    )
    def overall(
        version: bool = typer.Option(False, "--version", help=_("Show the version and exit.")),
        language: str = typer.Option(
            "",
            "--language",
            metavar="CODE",
            help=_("Language of all texts: {codes}.").format(codes=", ".join(LANGUAGES)),
        ),
    ) -> None:
        if version:
            print(f"reliefscope {software_version()}")
            raise typer.Exit

    for group in (capture, devices, reconstruct, evaluate, label, info, scenes, train, calibrate, benchmark):
        group.register(cli)
    return cli


def _open_window(words: list[str]) -> int:
    for word in words:
        if not Path(word).exists():
            raise ReliefscopeError(
                _("'{word}' is neither a command nor a file. 'reliefscope --help' lists the commands.").format(
                    word=word
                )
            )
    # Without this, Qt ends the process with a core dump.
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        raise ReliefscopeError(
            _("There is no display to open the window on. The commands need none: 'reliefscope --help' lists them.")
        )
    try:
        from app.application import run
    except ImportError as error:
        if (error.name or "").startswith(("app", "hardware", "models")):
            raise
        raise ReliefscopeError(_("The window cannot be opened: {reason}.").format(reason=error)) from error

    return int(run([str(Path(word).absolute()) for word in words]))


if __name__ == "__main__":
    sys.exit(main())
