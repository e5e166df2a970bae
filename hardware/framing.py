"""Bytes into lines, within bounds."""

from collections import deque

MAX_LINE_BYTES = 4096


class LineSplitter:
    """Collects bytes and gives whole lines, oldest first.

    Each of the bytes ``ends`` ends a line; empty lines do not count, other white space stays. A line longer than
    MAX_LINE_BYTES is thrown away as a whole. Text is Latin-1, so that every byte is a character.
    """

    def __init__(self, ends: bytes) -> None:
        self._ends = ends
        self._partial = bytearray()
        self._overlong = False
        self._lines: deque[str] = deque()

    def __len__(self) -> int:
        """Number of whole lines."""
        return len(self._lines)

    @property
    def has_partial(self) -> bool:
        """True where a line has begun and not ended."""
        return bool(self._partial)

    def feed(self, data: bytes) -> None:
        for byte in data:
            if byte in self._ends:
                if self._partial and not self._overlong:
                    self._lines.append(self._partial.decode("latin-1"))
                self.drop_partial()
            elif len(self._partial) < MAX_LINE_BYTES:
                self._partial.append(byte)
            else:
                self._overlong = True

    def take(self) -> str:
        """The oldest line. Raises IndexError where there is none."""
        return self._lines.popleft()

    def drop_partial(self) -> None:
        self._partial.clear()
        self._overlong = False

    def clear(self) -> None:
        self._lines.clear()
        self.drop_partial()
