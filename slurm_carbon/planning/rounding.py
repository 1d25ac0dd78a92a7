"""From prices to a plan: big items first, prices found anew as the room fills, then ruin and recreate.

Rounding a relaxation at once ends 10 to 70 % above the bound, because wide jobs come to share hours that they do not fit
into together. The dive places a little of the work at a time, the widest and longest first, and climbs the dual of what
is left on the capacity that is left before the next: small jobs then flow into the gaps. What remains is improved by
taking related items off the board and placing them again (Shaw 1998, doi:10.1007/3-540-49481-2_30; Schrimpf et al. 2000,
doi:10.1006/jcph.1999.6413).
"""

from collections.abc import Callable

import numpy as np

from slurm_carbon.planning.board import Board, State
from slurm_carbon.planning.columns import Multipliers
from slurm_carbon.planning.prices import SEARCHED, Dual, heat_g, sampled
from slurm_carbon.planning.problem import NO_END, Bools, Floats

RUINED = 10  # items at most that one step takes off
TRIES = 200, 2000  # to make room for an item that found none; and for all of them, with 20 more for each

Stop = Callable[[], bool]


def dive(
    board: Board, by: Multipliers, unit_g: Floats, rounds: int, evaluations: int, smoothing: float,
    random: np.random.Generator, noise: float = 0.0, stop: Stop = lambda: False,
) -> list[int]:  # fmt: skip
    """Place all items of an empty board. Returns those that found no room.

    `noise` is a share of the typical cost: it makes dives differ.
    """
    tables, items = board.tables, board.items
    run = np.array(board.longest)[board.kind]
    size = relative_size(board)
    order = np.argsort(-(size * np.sqrt(run)), kind="stable")
    work = np.cumsum((size * run)[order])
    part = np.minimum((work / max(float(work[-1]), 1e-300) * rounds).astype(np.int64), rounds - 1) if len(work) else order
    pools = len(tables.problem.places.pool_names)
    heat = noise * heat_g(tables, unit_g)
    without: list[int] = []
    for step in np.unique(part):
        left = order[part >= step]
        if step > 0 and not stop():
            weights = np.bincount(tables.class_of[items.job[left]], board.amount[left], tables.classes.shape[1])
            free = np.maximum(board.free[:pools, : tables.slots], 0.0)
            rest = Dual(tables, by, sampled(tables, weights, SEARCHED, random), free, unit_g)
            by = rest.climb(by, smoothing, evaluations)
        board.set_prices(by)
        shake = None
        for item in order[part == step].tolist():
            if noise:
                shake = -heat[board.kind[item]] * np.log(random.exponential(size=(tables.count, tables.slots)))
            if not board.place(item, shake):
                without.append(item)
    board.set_prices(None)
    return without


def relative_size(board: Board) -> Floats:
    """[I] the largest share of a pool that an item takes, on the mean of its locations."""
    tables = board.tables
    mean = np.append(tables.problem.places.capacity.mean(1), np.inf)[tables.pool]
    share = (tables.use / np.maximum(mean, 1e-300)).max(2, initial=0)
    allowed = tables.problem.profiles.allowed
    return np.asarray((share * allowed).sum(1) / np.maximum(1, allowed.sum(1)))[board.kind] * board.amount


class Improver:
    """Takes items off a board and places them again, and keeps what is better. The board stays feasible throughout."""

    def __init__(self, board: Board, random: np.random.Generator) -> None:
        self.board, self.random = board, random
        self.size = relative_size(board) * np.array(board.longest)[board.kind]
        placed = np.flatnonzero(board.location >= 0)
        self.grams = np.zeros(len(board.items))
        self.grams[placed] = board.grams(placed)
        late = placed[board.start[placed] > board.latest[placed]]
        over = [i for i in placed if board.finish_by[i] < NO_END and not self._in_time(int(i))]
        late = np.union1d(late, over).astype(np.int64)
        self.grams[late] += self.grams.sum()  # to get a late one into its window is worth any cost
        self.run = board.tables.run[board.kind, np.maximum(board.location, 0)]
        members = board.tables.problem.places.pool_members
        self.shares = (members.T.astype(int) @ members) > 0  # [L, L] draw on a common pool
        self.pooled = bool(self.shares.sum() > len(self.shares))
        self.steps = 0

    def _in_time(self, item: int) -> bool:
        board = self.board
        end = board.start[item] + board.tables.run[board.kind[item], board.location[item]]
        return bool(end <= board.finish_by[item])

    def step(self) -> float:
        """One attempt. Returns the change of the cost in g, never above zero."""
        self.steps += 1
        seed = int(self.random.integers(len(self.board.items)))
        if self.board.location[seed] < 0 or self.board.start[seed] >= self.board.tables.slots:
            return 0.0
        return self._shuffle(seed) if self.random.random() < 0.5 else self._push(seed)

    def rescue(self, absent: list[int], stop: Stop) -> list[int]:
        """Make room for items that found none by moving others. Returns those that still have none.

        Who is left out changes by the way, mostly to smaller items, and the least that was left out is what counts.
        """
        board, random = self.board, self.random
        best = sum(self.size[absent]), list(absent), board.state()
        for turn in range(min(TRIES[0] * len(absent), TRIES[1] + 20 * len(absent))):
            if not absent or stop():
                break
            item = absent.pop(int(random.integers(len(absent))) if turn % 2 else int(np.argmax(self.size[absent])))
            if board.place(item):
                self._note(item)
            else:
                out = self._force(item, self.size[item] * (1.0 if random.random() < 0.9 else 1.5))
                absent += [item] if out is None else out
            if sum(self.size[absent]) < best[0]:
                best = sum(self.size[absent]), list(absent), board.state()
        board.restore(best[2])
        return best[1]

    def fall_back(self, absent: list[int], sure: State, stop: Stop = lambda: False) -> list[int]:
        """Give items that found no room the place that a sure plan gives them, and whoever is there the next best one.

        Nobody is left out whom the sure plan has in time: at the worst, all end up where that has them, and at once if
        there is no time for more. Returns the others.
        """
        board = self.board
        place, start = sure
        fixed = np.zeros(len(board.items), dtype=bool)
        lost: list[int] = []
        while absent:
            if stop():
                board.restore((np.where(start <= board.latest, place, -1), start))
                return np.flatnonzero(board.location < 0).tolist()
            item = absent.pop()
            if board.place(item):
                self._note(item)
                continue
            board.location[item], board.start[item] = place[item], start[item]
            in_time = place[item] >= 0 and start[item] <= board.latest[item] and self._in_time(item)
            board.location[item] = -1
            if not in_time:
                lost.append(item)
                continue
            off = self._clear(item, int(place[item]), int(start[item]), [], fixed, len(fixed))
            if off is None:  # never: those that are fixed leave this room, as they do in the sure plan
                lost.append(item)
                continue
            board.put(item, int(place[item]), int(start[item]))
            self._note(item)
            fixed[item] = True
            absent += off
        return lost

    def _force(self, item: int, most: float) -> list[int] | None:
        """Put an item somewhere in its window, and whoever is there elsewhere. Returns whom that leaves out.

        None, and nothing is changed, if that is not possible, or leaves out as much as `most`.
        """
        board = self.board
        first, last = board.window(item)
        cost = board.costs(int(board.kind[item]))[:, first : max(first, last + 1)]
        choice = np.flatnonzero((np.isfinite(cost) & board.opens(item, first, first + cost.shape[1] - 1)).ravel())
        if not len(choice):
            return None
        location, slot = divmod(int(choice[self.random.integers(len(choice))]), cost.shape[1])
        before: list[tuple[int, int, int]] = []
        off = self._clear(item, location, first + slot, before)
        if off is None:
            return None
        board.put(item, location, first + slot)
        done = [item]
        out: list[int] = []
        # the cheapest start of each is often the one that is in the way: every other time, any start
        anywhere = board.random_starts(self.random) if self.random.random() < 0.5 else None
        for other in sorted(off, key=lambda x: -self.size[x]):
            (done if board.place(other, anywhere) else out).append(other)
        if sum(self.size[x] for x in out) >= most:
            for other in done:
                board.drop(other)
            for other, place, at in before:
                board.put(other, place, at)
            return None
        for other in done:
            self._note(other)
        return out

    def _note(self, item: int) -> None:
        board = self.board
        self.grams[item] = board.gram(item)
        self.run[item] = board.tables.run[board.kind[item], board.location[item]]

    def _shuffle(self, seed: int) -> float:
        """Take some items off that run when the seed could, and place them again in another order."""
        board, random = self.board, self.random
        first, last = int(board.earliest[seed]), int(board.latest[seed]) + board.longest[board.kind[seed]]
        near = np.flatnonzero((board.start < last) & (board.start + self.run > first) & (board.location >= 0))
        if not len(near):
            return 0.0
        ruined = np.unique(np.append(near[random.integers(0, len(near), int(random.integers(1, RUINED)))], seed))
        before = [(int(i), int(board.location[i]), int(board.start[i])) for i in ruined]
        for item in ruined.tolist():
            board.drop(item)
        if random.random() < 0.5:
            order = ruined[np.argsort(-self.size[ruined] * np.exp(random.normal(0, 0.5, len(ruined))))]
        else:
            order = random.permutation(ruined)
        return self._settle(order.tolist(), before, [])

    def _push(self, seed: int) -> float:
        """Give the seed a cheaper start, and what is in its way another one."""
        board, random = self.board, self.random
        first, last = board.window(seed)
        kind = int(board.kind[seed])
        cost = board.costs(kind)[:, first : last + 1]
        here, start = int(board.location[seed]), int(board.start[seed])
        if not first <= start <= last:
            return 0.0
        better = (cost < cost[here, start - first] * (1 - 1e-9)) & board.opens(seed, first, last)
        options = np.flatnonzero(better)
        if not len(options):
            return 0.0
        location, slot = divmod(int(options[random.integers(len(options))]), cost.shape[1])
        slot += first
        before = [(seed, here, start)]
        board.drop(seed)
        off = self._clear(seed, location, slot, before)
        if off is None:
            board.put(*before[0])
            return 0.0
        board.put(seed, location, slot)
        off.sort(key=lambda item: -self.size[item])
        return self._settle(off, before, [seed])

    def _clear(
        self, item: int, location: int, start: int, before: list[tuple[int, int, int]], fixed: Bools | None = None,
        most: int = RUINED,
    ) -> list[int] | None:  # fmt: skip
        """Take rivals off, in random order, until an item fits. Notes in `before` where they were; None: it cannot be."""
        board = self.board
        end = start + int(board.tables.run[board.kind[item], location])
        there = board.location == location
        if self.pooled:
            there = self.shares[location][board.location] & (board.location >= 0)
        there &= (board.start < end) & (board.start + self.run > start)
        if fixed is not None:
            there &= ~fixed
        rivals = self.random.permutation(np.flatnonzero(there))
        off: list[int] = []
        fits = self._room(item, location, start, end)
        for rival in rivals.tolist():
            if fits or len(off) == most:
                break
            before.append((rival, int(board.location[rival]), int(board.start[rival])))
            board.drop(rival)
            off.append(rival)
            fits = self._room(item, location, start, end)
        if fits:
            return off
        for other, place, at in before[len(before) - len(off) :]:
            board.put(other, place, at)
        return None

    def _room(self, item: int, location: int, start: int, end: int) -> bool:
        board = self.board
        use = board.tables.use[board.kind[item], location] * board.amount[item]
        return all(board.free[pool, start:end].min() >= use[i] for i, pool in enumerate(board.pools[location]) if use[i])

    def _settle(self, order: list[int], before: list[tuple[int, int, int]], placed: list[int]) -> float:
        """Place what is off the board; back to what was before if that does not fit or is dearer."""
        board = self.board
        was = sum(self.grams[item] for item, _, _ in before)
        now = sum(board.gram(item) for item in placed)
        done = list(placed)
        good = now <= was
        for item in order:
            if not good:
                break
            good = board.place(item)
            if good:
                done.append(item)
                now += board.gram(item)
                good = now <= was
        if not good:
            for item in done:
                board.drop(item)
            for item, place, at in before:
                board.put(item, place, at)
            return 0.0
        for item in done:
            self._note(item)
        return now - was
