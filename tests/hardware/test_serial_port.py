"""Why a port cannot be had, in words that help."""

import errno
import grp
import os

import pytest
import serial

from hardware.serial_port import open_port
from hardware.stage import StageError


@pytest.mark.parametrize(
    ("mode", "advice"), [(0o660, "membership in the group '{group}'"), (0o600, "who looks after this computer")]
)
def test_a_port_without_permission_names_its_own_group(mode, advice, tmp_path, monkeypatch):
    port = tmp_path / "tty"
    port.touch()
    port.chmod(mode)

    def refuse(*args, **words):
        raise serial.SerialException(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(StageError) as caught:
        open_port(str(port), 9600, 1, keep_dtr=False, stage="Focus")
    group = grp.getgrgid(os.stat(port).st_gid).gr_name
    assert advice.format(group=group) in str(caught.value)
    assert str(port) in str(caught.value)
