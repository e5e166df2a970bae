"""The serial line on its own: framing, being in step, STOP, cables and noise - over pseudo-terminals."""

import contextlib
import threading
import time
from dataclasses import replace

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.cable import LOG_ENTRIES
from hardware.framing import MAX_LINE_BYTES, LineSplitter
from hardware.line import LineFormat, SerialLine
from hardware.simulator.controllers.emulator import Emulator, Motor
from hardware.stage import StageDisconnected, StageError, StageNoReply, StagePortBusy, StageStopped
from tests.hardware.stage_behaviour import wait_until

FORMAT = LineFormat(
    command_end=b"\r",
    is_push=lambda line: line.startswith("!"),
    sync=("sync", lambda line: line == "in step"),
    timeout_s=0.3,
)


class Parrot(Emulator):
    """Answers ``say X`` with X, ``lines`` with three, ``push`` with a push line before its reply, else nothing."""

    line_end = b"\r"

    def power_up(self):
        self.halts = 0

    def handle_byte(self, byte):
        self.halts += byte == 0x18
        return byte == 0x18

    def handle_line(self, line):
        if line.startswith("say "):
            self.send(line[4:])
        elif line == "lines":
            for text in ("one", "two", "end"):
                self.send(text)
        elif line == "push":
            self.send("!pushed")
            self.send("done")
        elif line == "sync":
            self.send("in step")


@pytest.fixture
def parrot():
    with Parrot(Motor(-1.0, 1.0)) as emulator:
        yield emulator


@pytest.fixture
def line(parrot):
    with contextlib.closing(SerialLine(parrot.port, 115200, FORMAT, name="Parrot")) as opened:
        yield opened


class TestReplies:
    def test_a_line_for_a_line(self, line):
        assert line.ask("say hello") == "hello"
        assert line.ask(b"say raw\r") == "raw"

    def test_several_lines(self, line):
        assert line.ask_lines("lines", is_last=lambda text: text == "end") == ["one", "two", "end"]

    def test_white_space_inside_the_line_stays(self, line):
        assert line.ask("say  two ") == " two "

    def test_push_lines_are_kept_apart(self, line, parrot):
        heard = []
        line.on_push = heard.append
        assert line.ask("push") == "done"
        parrot.noise(b"!later\r\nno reply to anything\r\n")
        time.sleep(0.03)
        assert line.ask("say on") == "on"
        assert heard == ["!pushed", "!later"]

    def test_listening(self, line, parrot):
        parrot.noise(b"!hello\r\nready\r\n")
        assert line.listen(1.0, until=lambda text: text == "ready") == ["!hello", "ready"]
        assert line.listen(0.01) == []

    def test_an_echo_is_no_reply(self, line, parrot):
        parrot.echo = True
        assert line.ask("say hello") == "hello"

    def test_only_what_is_accepted_counts(self, line, parrot):
        parrot.noise(b"")
        assert line.ask_lines("lines", lambda text: True, lambda text: text == "two") == ["two"]
        with pytest.raises(StageNoReply, match="cannot be understood"):
            line.ask("say something", lambda text: text == "else")

    def test_silence_is_a_sentence(self, line):
        with pytest.raises(StageNoReply, match=r"Parrot does not answer.*power"):
            line.ask("nothing")

    def test_a_query_is_repeated_once(self, line, parrot):
        parrot.drop_next = 1
        assert line.ask("say again", repeat=True) == "again"
        parrot.drop_next = 1
        with pytest.raises(StageNoReply):
            line.ask("say never")


class TestInStep:
    @pytest.mark.parametrize("late_s", [0.32, 0.4, 0.55])
    def test_a_late_reply_never_counts_for_the_next_command(self, line, parrot, late_s):
        parrot.delay_next_s = late_s
        with pytest.raises(StageNoReply):
            line.ask("say first")
        assert line.ask("say second") == "second"
        assert line.ask("say third") == "third"

    def test_nor_does_it_after_a_long_silence(self, line, parrot):
        parrot.delay_next_s = 1.0
        with pytest.raises(StageNoReply):
            line.ask("say first")
        answers = []
        while not answers:
            with contextlib.suppress(StageNoReply):
                answers.append(line.ask("say second"))
        assert answers == ["second"]

    def test_half_a_line_in_between_spoils_nothing(self, line, parrot):
        parrot.noise(b"hal")
        time.sleep(0.03)
        assert line.ask("say whole") == "whole"

    def test_an_endless_line_is_thrown_away(self, line, parrot):
        parrot.noise(b"x" * (3 * MAX_LINE_BYTES) + b"\r\n")
        time.sleep(0.1)
        assert line.ask("say short") == "short"

    def test_an_endless_stream_ends_in_a_sentence(self, line, parrot):
        over = threading.Event()

        def stream():
            while not over.wait(0.005):
                parrot.noise(b"U\xff" * 30 + b"\r")

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for _repetition in range(2):
                with pytest.raises(StageNoReply, match=r"baud rate"):
                    line.ask("say x", lambda text: text == "x y")
        finally:
            over.set()
            thread.join()

    def test_the_log_is_bounded_and_shows_both_ways(self, line):
        for number in range(LOG_ENTRIES):
            line.ask(f"say {number}")
        shown = line.log.splitlines()
        assert len(shown) == LOG_ENTRIES
        assert any("> 'say" in entry for entry in shown)
        assert any("< '" in entry for entry in shown)

    def test_an_endless_stream_without_line_ends_ends_in_a_sentence(self, line, parrot):
        over = threading.Event()

        def stream():
            while not over.wait(0.001):
                parrot.noise(b"\x55" * 500)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            with pytest.raises(StageNoReply):
                line.ask("say x", lambda text: text == "x y")
        finally:
            over.set()
            thread.join()


class TestSplitter:
    @given(st.lists(st.binary(max_size=30)))
    def test_lines_do_not_depend_on_how_the_bytes_arrive(self, chunks):
        whole, pieces = LineSplitter(b"\r\n"), LineSplitter(b"\r\n")
        whole.feed(b"".join(chunks))
        for chunk in chunks:
            pieces.feed(chunk)
        lines = [whole.take() for _ in range(len(whole))]
        assert lines == [pieces.take() for _ in range(len(pieces))]
        expected = b"".join(chunks).replace(b"\n", b"\r").split(b"\r")[:-1]
        assert lines == [text.decode("latin-1") for text in expected if text]

    def test_overlong_lines_are_thrown_away_whole(self):
        splitter = LineSplitter(b"\n")
        splitter.feed(b"x" * (MAX_LINE_BYTES + 1) + b"\nshort\n")
        assert splitter.take() == "short"
        assert not splitter


class TestStop:
    def test_passes_a_blocked_read_and_shortens_it(self, line, parrot):
        raised = []

        def ask():
            try:
                line.ask("nothing", timeout_s=30.0)
            except StageError as error:
                raised.append(type(error))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.05)
        began_s = time.monotonic()
        line.urgent(b"\x18")
        assert parrot.wait_for(b"\x18") - began_s < 0.05
        thread.join(5.0)
        assert raised == [StageStopped]
        assert line.ask("say on") == "on"

    def test_its_reply_counts_for_no_command(self, line):
        line.urgent(b"say stopped\r")
        assert line.ask("say after") == "after"

    def test_passes_a_full_queue(self, parrot, line):
        parrot.deaf = True
        with pytest.raises(StageNoReply, match="no more commands"):
            any(line.tell("x" * 100) for _repetition in range(1000))
        began_s = time.monotonic()
        with contextlib.suppress(StageError):
            line.urgent(b"\x18")
        assert time.monotonic() - began_s < 0.1
        parrot.deaf = False
        parrot.wait_for(b"\x18")

    def test_while_the_cable_is_out_it_is_kept_for_later(self, line, parrot):
        parrot.unplug()
        with pytest.raises(StageDisconnected, match="cable"):
            line.ask("say x")
        with pytest.raises(StageDisconnected):
            line.urgent(b"\x18")
        parrot.replug()
        line.reconnect(5.0)
        parrot.wait_for(b"\x18")
        assert parrot.halts == 1
        assert line.ask("say on") == "on"

    def test_a_command_that_it_overtakes_is_not_sent(self, line, parrot):
        """While the line gets back in step, and while another conversation goes on."""
        line.urgent(b"\x18")
        parrot.delay_next_s = 0.1
        raised = []

        def tell():
            try:
                line.tell("go")
            except StageError as error:
                raised.append(type(error))

        thread = threading.Thread(target=tell)
        thread.start()
        wait_until(lambda: "sync" in parrot.commands)
        line.urgent(b"\x18")
        thread.join(5.0)
        assert raised == [StageStopped]
        line.ask("say on")
        assert "go" not in parrot.commands

    def test_a_port_that_does_not_take_it_is_opened_again_for_it(self, line, parrot, monkeypatch):
        def full(port, data):
            raise serial.SerialTimeoutException("write timeout")

        with monkeypatch.context() as patch:
            patch.setattr("hardware.cable.write", full)
            with pytest.raises(StageDisconnected):
                line.urgent(b"\x18")
        assert line.ask("say on") == "on"
        assert parrot.halts == 1
        assert parrot.received[0][1].startswith(b"\x18")

    def test_nothing_more_of_an_action_is_sent(self, line, parrot):
        with line.action():
            line.tell("one")
            line.urgent(b"\x18")
            with pytest.raises(StageStopped):
                line.tell("two")
        line.tell("three")
        wait_until(lambda: "three" in parrot.commands)
        assert "two" not in parrot.commands


class TestCable:
    def test_out_and_in_again(self, line, parrot):
        calls = []
        line.on_connect = lambda: calls.append(line.ask("say who"))
        parrot.unplug()
        for _repetition in range(3):
            with pytest.raises(StageDisconnected, match="cable"):
                line.ask("say x")
        assert "cable" in line.fault
        parrot.replug()
        line.reconnect(5.0)
        assert calls == ["who"]
        assert line.fault is None
        assert line.ask("say x") == "x"

    def test_while_a_reply_is_awaited(self, line, parrot):
        threading.Timer(0.05, parrot.unplug).start()
        with pytest.raises(StageDisconnected):
            line.ask("nothing", timeout_s=5.0)

    def test_somebody_else_on_the_other_end_is_refused(self, line, parrot):
        def refuse():
            raise StageError("somebody else")

        line.on_connect = refuse
        parrot.unplug()
        with pytest.raises(StageDisconnected):
            line.ask("say x")
        parrot.replug()
        with pytest.raises(StageError, match="somebody else"):
            line.reconnect(0.5)
        assert line.fault == "somebody else"

    def test_waiting_for_it_can_be_given_up(self, line, parrot):
        parrot.unplug()
        with pytest.raises(StageDisconnected):
            line.ask("say x")
        cancel = threading.Event()
        threading.Timer(0.1, cancel.set).start()
        began_s = time.monotonic()
        with pytest.raises(StageError):
            line.reconnect(30.0, cancel)
        assert time.monotonic() - began_s < 5.0

    def test_a_port_that_is_in_use(self, line, parrot):
        with pytest.raises(StagePortBusy, match=r"in use by another program\. Close"):
            SerialLine(parrot.port, 115200, FORMAT, name="Second")
        assert line.ask("say still here") == "still here"

    def test_a_port_that_is_not_there(self, tmp_path):
        with pytest.raises(StageDisconnected, match="cannot be opened"):
            SerialLine(str(tmp_path / "tty"), 115200, FORMAT, name="Nobody")

    def test_a_file_is_no_port(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"")
        with pytest.raises(StageError, match="cannot be opened"):
            SerialLine(str(path), 115200, LineFormat(keep_dtr=True), name="File")

    def test_closed_is_closed(self, line):
        line.close()
        line.close()
        with pytest.raises(StageDisconnected, match="closed"):
            line.ask("say x")
        with pytest.raises(StageDisconnected):
            line.urgent(b"\x18")

    def test_dtr_stays_up_after_closing_where_the_board_would_reset(self, parrot):
        termios = pytest.importorskip("termios")
        SerialLine(parrot.port, 115200, LineFormat(keep_dtr=True), name="Board").close()
        assert not termios.tcgetattr(parrot._slave)[2] & termios.HUPCL


@pytest.fixture(scope="module")
def noisy():
    with Parrot(Motor(-1.0, 1.0)) as emulator:
        opened = SerialLine(emulator.port, 115200, replace(FORMAT, timeout_s=0.08), name="Parrot")
        yield opened, emulator
        opened.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=60), max_size=5), st.integers(0, 10**6))
def test_no_bytes_make_it_hang_or_take_another_reply_for_its_own(noisy, chunks, number):
    opened, emulator = noisy
    for chunk in chunks:
        emulator.noise(chunk)
    with contextlib.suppress(StageNoReply):
        assert opened.ask(f"say <{number}>", lambda text: text.startswith("<"), repeat=True) == f"<{number}>"
