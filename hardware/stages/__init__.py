"""Focus stages on a serial line, one module per protocol.

How a driver is built:

1. ``hardware/stages/<name>.py``: a constant :class:`hardware.line.LineFormat`, ``identify(line)`` that asks who is
   there (queries only; None where somebody else answers), a subclass of
   :class:`hardware.stages.driver.SerialStage` with the words of the protocol, tables of error codes as sentences,
   and a constant ``DRIVER = StageDriver(...)``. Settings of its own: a subclass of ``SerialStageSettings``.
2. One line in :mod:`hardware.stages.registry`; one file in ``resources/profiles``.
3. ``hardware/simulator/controllers/<name>.py``: an emulator on :class:`~.emulator.Emulator`, written from the
   manual and not from the driver.
4. ``tests/hardware/test_<name>.py``: the shared table ``stage_behaviour.StageBehaviour`` on the emulator, what is
   special about the protocol, and the fuzzing of its parser.

Parsers match whole lines with regular expressions and raise StageNoReply for anything else. Queries may be
repeated (``repeat=True``), moves never. STOP goes through ``SerialLine.urgent``.
"""
