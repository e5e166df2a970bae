"""Errors that a person is meant to read.

A message says what happened, to which file or device, and what to do about it. The command line
prints it and exits with code 2; the window shows it in its fault bar. Anything else that escapes
is a defect of the program and keeps its traceback.
"""


class ReliefscopeError(Exception):
    """Base of every error whose text is written for the user."""


class InputError(ReliefscopeError):
    """A file, folder or value given by the user cannot be used."""


class OutputError(ReliefscopeError):
    """A result cannot be written where the user asked for it."""


class Cancelled(Exception):
    """The user stopped a long task. Not a fault: nothing is to be explained."""
