"""Controllers that exist in software: they speak their makers' protocols over a pseudo-terminal, byte for byte.

Written from the manuals and independent of the drivers in :mod:`hardware.stages`, so that a misunderstanding on
one side does not hide on the other. They need POSIX.
"""
