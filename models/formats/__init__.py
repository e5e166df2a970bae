"""Reading stacks and writing height maps in the formats of other programs."""

from models.formats.stacks import STACK_SUFFIXES, read_stack

__all__ = ["STACK_SUFFIXES", "read_stack"]
