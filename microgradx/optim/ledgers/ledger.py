"""A ledger of what an optimizer does: for chosen numbers, every step, the rule with its numbers put in.

with optim.ledger(optimizer, watch={"0.weight": (3, 7)}) as log:
    mg.fit(model, optimizer, train, epochs=1)
log.explain("0.weight", (3, 7), step=12)
log["0.weight"]["v_hat"]                            # (steps, watched numbers)
log.save("steps.csv"); log.picture("steps.png")     # or steps.parquet

Inside a compiled step or scan, what is watched is one more result.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError, writable
from microgradx.extras import install
from microgradx.kernels.cpu import Sweep
from microgradx.optim.base import Optimizer, Watcher
from microgradx.optim.flat import Data, Flat, Part
from microgradx.optim.ledgers import pictures
from microgradx.optim.ledgers.parameter_log import Account, Block, Index, Start

Watch = int | str | Iterable[str] | dict[str, Index]
Read = Data | Tensor
"""What compiled steps have read for a page, in memory of a GPU or of the page."""

BLOCK = 1 << 23  # bytes of memory that a ledger takes at a time
unnamed = " Names such as 0.weight come from an optimizer of model.named_parameters()."


class Ledger(Watcher):
    """Writes down the steps of an optimizer while its `with` block runs.

    `watch` is what to choose: so many numbers spread evenly; a name, or a pattern such as "*.weight", or
    several; or a dict from names to what picks numbers of that array: an index (3, 7), a list of indices,
    slices, a mask, or `...` for all. `every` writes down one of so many steps, the first. Each takes memory
    for 3 + states numbers per watched one: with Adam, 20 kB for a thousand. ArgumentError for what is not
    there, or is not watched.

    >>> w = mg.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Momentum([("w", w)], lr=0.5, beta=0.5)
    >>> with optim.ledger(optimizer, watch={"w": 0}) as log:
    ...     for _ in range(2):
    ...         optimizer.zero_grad()
    ...         (w * w).sum().backward()
    ...         optimizer.step()
    >>> log["w"]["m"].tolist()
    [[1.0], [1.0]]
    >>> log.explain("w", 0, step=2)  # doctest: +ELLIPSIS
    w[0] in step 2 of momentum: Follow the mean of recent gradients (averaging form).
    ...
      m ← β · m + (1 - β) · g
        = 0.5 · 1 + (1 - 0.5) · 1
        = 1
    ...
    """

    def __init__(self, optimizer: Optimizer, watch: Watch = 1000, every: int = 1):
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"ledger: it takes an optimizer, not {type(optimizer).__name__}.")
        if not isinstance(every, int) or every < 1:
            raise ArgumentError(f"ledger: every must be a whole number of at least 1, got {every!r}.")
        self.optimizer, self.every, self.steps = optimizer, every, 0
        parts = {part.name: part for flat in optimizer.flats for part in flat.parts}
        places = chosen(parts, watch)
        flats = [flat for flat in optimizer.flats if any(part.name in places for part in flat.parts)]
        self.pages = [Page(flat, places) for flat in flats]
        self.accounts = {one.name: one for page in self.pages for one in page.accounts}

    def __repr__(self) -> str:
        count = sum(len(one.indices) for one in self.accounts.values())
        return f"<Ledger of {count} numbers of {', '.join(self.accounts)}, {self.steps} steps>"

    def __enter__(self) -> "Ledger":
        self.optimizer.ledgers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.optimizer.ledgers.remove(self)

    def __getitem__(self, name: str) -> Account:
        """The account of a parameter."""
        if name not in self.accounts:
            hint = unnamed if all(name.isdecimal() for name in self.accounts) else ""
            raise ArgumentError(f"no {name!r} in this ledger; it watches {', '.join(self.accounts)}.{hint}")
        return self.accounts[name]

    # What an optimizer calls

    def open(self) -> None:
        """A step is about to begin."""
        if self.steps % self.every == 0:
            for page in self.pages:
                page.open()

    def close(self) -> None:
        """It is done."""
        if self.steps % self.every == 0:
            for page in self.pages:
                page.close()
        self.steps += 1

    def write(self, found: Iterator[Read], starts: list[list[Start]], seats: dict[int, int]) -> None:
        """Compiled steps are done: what they found on each page, and what they started from."""
        due = slice(-self.steps % self.every, None, self.every)
        for page in self.pages:
            page.write(next(found), starts, seats, due)
        self.steps += len(starts)

    # Reading

    def explain(self, name: str, index: Index = None, step: int | None = None) -> None:
        """Print the rule with the numbers of one step put in, line by line; `step` is the rule's own t."""
        print(self[name].explain(index, step))

    def table(self) -> dict[str, Sequence[object] | np.ndarray]:
        """All columns by name, a row per step and watched number; NaN where a rule has no such column."""
        accounts = [one for one in self.accounts.values() if one.names]
        rows = [(one, t, index) for one in accounts for t in one.t.tolist() for index in one.indices]
        table: dict[str, Sequence[object] | np.ndarray] = {
            "parameter": [one.name for one, _, _ in rows],
            "index": [",".join(map(str, index)) for _, _, index in rows],
            "step": [t for _, t, _ in rows],
        }
        for name in dict.fromkeys(name for one in accounts for name in one.names):
            blank = [np.full((len(one.t), len(one.indices)), np.nan, np.float32) for one in accounts]
            pieces = zip(accounts, blank, strict=True)
            found = [one[name] if name in one.names else missing for one, missing in pieces]
            table[name] = np.concatenate([x.ravel() for x in found])
        return table

    def save(self, path: str | Path) -> None:
        """Write the table as .csv (blank for NaN) or, with the extra `parquet`, as .parquet."""
        suffix = Path(path).suffix.lower()
        if suffix == ".csv":
            table = self.table()
            with open(writable(path), "w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(table)
                rows.writerows(zip(*([x if x == x else "" for x in c] for c in table.values()), strict=True))
        elif suffix == ".parquet":
            try:
                import pyarrow
                from pyarrow import parquet
            except ImportError:
                how = f"{install('parquet')}, or save as .csv"
                raise ArgumentError(f"{path}: Parquet files need pyarrow: {how}.") from None
            parquet.write_table(pyarrow.table(self.table()), writable(path))
        else:
            raise ArgumentError(f"{path}: a ledger is saved as .csv or .parquet.")

    def picture(self, path: str | Path, name: str | None = None, index: Index = None) -> None:
        """Draw it as a PNG: all watched numbers by parameter, or the story of one number of `name`."""
        if name is None:
            pictures.overview(self.accounts, path)
        else:
            pictures.story(self[name], self[name].find(index), path)


ledger = Ledger
"""Write down the steps of chosen numbers of an optimizer, inside `with ledger(optimizer) as log:`."""


class Page:
    """The watched numbers of one flat buffer, read with one gather per array; a row per array and step."""

    def __init__(self, flat: Flat, places: dict[str, np.ndarray]):
        self.flat, self.parts = flat, [part for part in flat.parts if part.name in places]
        self.free = np.empty((0, 0, 0))  # memory of steps that are still to be written
        self.blocks: list[Block] = []
        self.accounts: list[Account] = []
        stop = 0
        for k, part in enumerate(self.parts):
            start, stop = stop, stop + len(places[part.name])
            shape = part.value.shape
            indices: list[tuple[int, ...]] = [()]
            if shape:
                axes = np.unravel_index(places[part.name], shape)
                indices = list(zip(*(axis.tolist() for axis in axes), strict=True))
            self.accounts.append(Account(part.name, shape, indices, self.blocks, k, slice(start, stop)))
        self.places = np.concatenate([places[part.name] for part in self.parts])
        counts = [len(places[part.name]) for part in self.parts]
        self.index = self.places + np.repeat([part.place.start for part in self.parts], counts)
        self.form = flat, *((part.name, n) for part, n in zip(self.parts, counts, strict=True))

    def open(self) -> None:
        """Read what the step starts from."""
        flat = self.flat
        p, _, *state = flat.arrays
        self.numbers = self.room(1)
        self.read(p, self.numbers[0, 0])
        for row, array in enumerate(state, 2):
            self.read(array, self.numbers[0, row])
        self.sweep, self.options = flat.update, flat.hyperparameters
        self.clocks = [part.clock for part in self.parts]

    @property
    def shape(self) -> tuple[int, int]:
        """(3 + states, watched)"""
        return len(self.flat.arrays) + 1, len(self.index)

    @property
    def capacity(self) -> int:
        """Steps for which memory is taken at a time."""
        return max(1, BLOCK // max(1, self.flat.dtype.itemsize * math.prod(self.shape)))

    def room(self, steps: int) -> np.ndarray:
        """(steps, *shape) fresh memory, of a larger piece: the system gives that at less cost."""
        if len(self.free) < steps or self.free.shape[1] != len(self.flat.arrays) + 1:
            self.free = np.empty((max(self.capacity, steps), *self.shape), self.flat.dtype)
        return self.free[:steps]

    def close(self) -> None:
        """Read the gradient, which the step leaves as it is, and where the weights have gone."""
        p, g, *_ = self.flat.arrays
        self.read(g, self.numbers[0, 1])
        self.read(p, self.numbers[0, -1])
        starts = [(self.options, clock) for clock in self.clocks]
        stepped = [part.clock is not then for part, then in zip(self.parts, self.clocks, strict=True)]
        self.free = self.free[1:]
        self.keep(self.numbers, self.sweep, [starts], [k if done else None for k, done in enumerate(stepped)])

    def write(self, found: Read, starts: list[list[Start]], seats: dict[int, int], due: slice) -> None:
        """Keep what is due of what compiled steps have read, on a GPU or in this page's room."""
        numbers, kept = self.room(len(starts)), starts[due]
        if not kept:
            return
        if not isinstance(found, np.ndarray):
            numbers[...] = found[: len(starts)].numpy()
        numbers[:-1, -1] = numbers[1:, 0]  # what a step leaves is what the next one begins with
        self.read(self.flat.values, numbers[-1, -1])
        if len(kept) < len(starts):
            numbers = numbers[due].copy()
        else:
            self.free = self.free[len(starts) :]
        self.keep(numbers, self.flat.update, kept, [seats.get(id(part)) for part in self.parts])

    def keep(
        self, numbers: np.ndarray, sweep: Sweep, starts: list[list[Start]], seats: list[int | None]
    ) -> None:
        """Write down some steps."""
        given = [part.given for part in self.parts]
        self.blocks.append(Block(numbers, sweep, starts, seats, given))

    def read(self, array: Data, out: np.ndarray) -> None:
        """Gather the watched numbers of a flat array; from a GPU, these alone."""
        if isinstance(array, np.ndarray):
            array.take(self.index, out=out, mode="clip")  # in range, and faster than "raise"
        else:
            out[...] = wrap(array)[self.index].numpy()


def chosen(parts: dict[str, Part], watch: Watch) -> dict[str, np.ndarray]:
    """The places to watch, by parameter, as positions in it."""
    if isinstance(watch, int):
        return spread(parts, watch)
    if not isinstance(watch, dict):
        watch = dict.fromkeys([watch] if isinstance(watch, str) else watch, ...)
    places: dict[str, np.ndarray] = {}
    for pattern, index in watch.items():
        found = [name for name in parts if name == pattern or fnmatchcase(name, str(pattern))]
        if not found:
            hint = unnamed if all(name.isdecimal() for name in parts) else ""
            raise ArgumentError(f"ledger: no parameter {pattern!r}; there are {', '.join(parts)}.{hint}")
        places |= {name: positions(parts[name], index) for name in found}
    return places


def spread(parts: dict[str, Part], count: int) -> dict[str, np.ndarray]:
    """So many places, evenly over all parameters; all, if there are no more."""
    if count < 1:
        raise ArgumentError(f"ledger: watch must be at least 1 number, got {count}.")
    stops = np.cumsum([part.value.size for part in parts.values()])
    every = np.unique(np.linspace(0, stops[-1] - 1, min(count, stops[-1])).round().astype(np.int64))
    pieces = np.split(every, np.searchsorted(every, stops[:-1]))
    starts = [0, *stops[:-1]]
    pairs = zip(parts, pieces, starts, strict=True)
    return {name: piece - start for name, piece, start in pairs if len(piece)}


def positions(part: Part, index: Index) -> np.ndarray:
    """The places in a parameter that an index picks."""
    shape, size = part.value.shape, part.value.size
    if isinstance(index, list):
        index = tuple(np.array(index).reshape(len(index), -1).T)
    try:
        return np.arange(size, dtype=np.int64).reshape(shape)[index].ravel()
    except (IndexError, ValueError, TypeError) as error:
        where = f"ledger: {part.name} of shape {shape}"
        raise ArgumentError(f"{where}: {index!r} picks nothing: {error}.") from None
