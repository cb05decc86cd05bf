"""What a migration brought over and what not, collected on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

#: Of what did not come over, so many are described; all are counted.
DESCRIBED = 1000


@dataclass(frozen=True)
class Lost:
    """Something that did not come over: where it stands in the old file, and why not."""

    where: str
    why: str


@dataclass(frozen=True)
class MigrationReport:
    """What `migrate` brought over and what not.

    Attributes
    ----------
    old, new : str
        The two files, as absolute paths.
    kind : str
        What the old file is: ``"log"``, ``"mmap"``, ``"gwi"``, ``"cascade"`` or ``"svs"``.
    components : tuple of str
        The classes that find something of theirs in the new file; `SynaDB` opens every log.
    came : dict
        How much of what came over: ``{"values": 120, "deletions": 3, "vectors": 20}``. In a log
        ``values`` are all records of all histories that were copied as they are; what is counted
        under a component's own names is either among them or was put into its new form.
    lost : tuple of Lost
        What did not come over, the first 1,000 of it.
    lost_count : int
        All of it.
    torn_bytes : int
        An unfinished record at the end of the old file, which nobody was promised.
    differences : int
        Floats that the old file holds as differences to the one before. Each is now the sum that
        the ancestor read.
    rounding : float
        No such sum is further than this from the float that was put.
    notes : tuple of str
        What else one should know: what changed its form, what was assumed.
    """

    old: str
    new: str
    kind: str
    components: tuple[str, ...]
    came: dict[str, int]
    lost: tuple[Lost, ...]
    lost_count: int
    torn_bytes: int
    differences: int
    rounding: float
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything came over."""
        return self.lost_count == 0


class Findings:
    """Collects what the report will say."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new
        self.kind = ""
        self.components: list[str] = []
        self.came: Counter[str] = Counter()
        self.notes: list[str] = []
        self.torn_bytes = 0
        self.differences = 0
        self.rounding = 0.0
        self._lost: list[Lost] = []
        self._lost_count = 0

    def component(self, name: str) -> None:
        if name not in self.components:
            self.components.append(name)

    def lose(self, where: str, why: str, count: int = 1) -> None:
        """Something, `count` times, did not come over."""
        self._lost_count += count
        if len(self._lost) < DESCRIBED:
            self._lost.append(Lost(where, why))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def report(self) -> MigrationReport:
        return MigrationReport(
            old=self.old,
            new=self.new,
            kind=self.kind,
            components=tuple(self.components),
            came=dict(self.came),
            lost=tuple(self._lost),
            lost_count=self._lost_count,
            torn_bytes=self.torn_bytes,
            differences=self.differences,
            rounding=self.rounding,
            notes=tuple(self.notes),
        )
