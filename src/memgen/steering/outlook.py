"""What rows that were not run would show, judged by those that were.

A row's *lead* says by how much the looked-for answer is ahead of every other one; it is positive if
that answer is written. Squeezed by arcsinh, the leads of one prompt are taken for one draw from a
Gaussian over the cells, the same for all prompts. Its mean and covariance are estimated from the
rows that were run, by expectation maximization (Dempster, Laird and Rubin 1977) from a prior in which
shifts that point alike and are of one size act alike. What a prompt did in some cells then says,
with an error, what it would do in the others.

The errors are Student's t with four degrees of freedom and not Gauss', and no smaller than those
that were made: every row that is run was foretold first, and the scale of the errors is raised until
what was found fits. The mean of a cell of which few rows were run has an error of its own, common to
all prompts.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

MEDIAN = 0.7406970841126829  # of the size of Student's t with four degrees of freedom
COMMON, OWN = 0.25, 0.02  # shares of the prior variance: common to all cells, a cell's alone
MEANS_OWN = 0.1  # share that the mean of a cell has for itself, beside what it has in common
SIZE, TURN = 0.9, 1.0  # by which log length, and root of 1 - cosine, two shifts still act alike
PRIOR = 20  # prompts that the prior counts as
WIDTH = 12  # rows that what is known of others tells the width of a cell's leads as
SETTLING, FOLLOWING = 60, 2  # rounds of estimation at most, at first and after more rows
STILL = 0.005  # it ends when no covariance moves by more, in units of the leads' variance
LEAST = 1e-4  # no row that was not run is surer than that
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def kinship(shifts: np.ndarray) -> np.ndarray:
    """Prior correlation of cells `[C, C]` by their shifts `[C, L, d]`; a zero shift is like no other."""
    flat = np.asarray(shifts, dtype=np.float64).reshape(len(shifts), -1)
    length = np.linalg.norm(flat, axis=1)
    moved = length > 0
    unit = flat / np.where(moved, length, 1)[:, None]
    log = np.log(np.where(moved, length, 1))
    apart = ((log[:, None] - log) / SIZE) ** 2 / 2 + (1 - unit @ unit.T) / TURN**2
    alike = np.where(moved[:, None] & moved, np.exp(-apart), 0)
    np.fill_diagonal(alike, 1)
    return COMMON + (1 - COMMON - OWN) * alike + OWN * np.eye(len(flat))


class Outlook:
    """Chances of success of all cells on all prompts; 0 or 1 where a row was run.

    `run`, `won`: bool `[C, P]`; `lead`: squeezed, 0 where nothing was run.
    """

    def __init__(self, kin: np.ndarray, n_prompts: int):
        self.kin = kin
        self.run = np.zeros((len(kin), n_prompts), dtype=bool)
        self.won = np.zeros_like(self.run)
        self.lead = np.zeros(self.run.shape)
        self._center = self._spread = None  # what is foretold of every lead
        self._covariance: np.ndarray | None = None
        self._errors: list[np.ndarray] = []

    def learn(self, cells: np.ndarray, prompts: np.ndarray, leads: np.ndarray) -> None:
        """Rows that were run, and none of which was known; each is a cell, a prompt and a lead."""
        found = np.arcsinh(np.asarray(leads, dtype=np.float64))
        if self._center is not None:
            missed = found - self._center[cells, prompts]
            self._errors.append(np.abs(missed / self._spread[cells, prompts]))
        self.lead[cells, prompts], self.run[cells, prompts] = found, True
        self.won[cells, prompts] = leads > 0
        self._center = None

    def _foretell(self) -> None:
        """Center and spread `[C, P]` of every lead, and the error of what is foretold of a cell `[C]`."""
        known = self.lead[self.run]
        scale, level = (
            (max(float(known.var()), 1e-6), float(known.mean())) if len(known) else (1, 0)
        )
        width = self._widths()
        expected = self.kin * np.outer(width, width)
        rounds = FOLLOWING
        if self._covariance is None:
            rounds, self._covariance = SETTLING, expected
        alone = MEANS_OWN * np.eye(len(self.kin))
        prior, (n_cells, n) = np.linalg.inv((self.kin + alone) * scale), self.run.shape
        at, there = _places(self.run)  # [P, K]
        lead = np.where(there, self.lead[at, np.arange(n)[:, None]], 0) - level * there
        pairs = (at[:, :, None] * n_cells + at[:, None]).ravel()
        pull = np.zeros((n, n_cells))
        for _ in range(rounds):
            before = self._covariance
            inverse = _inverses(before, at, there, 1e-6 * scale)
            among = np.bincount(pairs, inverse.ravel(), n_cells**2).reshape(n_cells, n_cells)
            # the likeliest means, and the covariance of their errors
            error = np.linalg.inv(prior + among)
            np.put_along_axis(pull, at, (inverse @ lead[:, :, None])[..., 0], axis=1)
            mean = error @ pull.sum(0)
            missed = lead - mean[at] * there
            np.put_along_axis(pull, at, (inverse @ missed[:, :, None])[..., 0], axis=1)
            # einsum: a product of this size would wake the threads of BLAS, which costs more than it
            moved = np.einsum("pc,pd->cd", pull, pull) - among
            covariance = before @ moved @ before + n * before + PRIOR * expected
            # rounding makes it a little lopsided, which would grow from round to round
            self._covariance = (covariance + covariance.T) / (2 * (n + PRIOR))
            if np.abs(self._covariance - before).max() < STILL * scale:
                break
        across = before[at]  # [P, K, C]
        weights = inverse @ across
        self._center = (level + mean + (missed[:, None] @ weights)[:, 0]).T
        spread = before.diagonal() - (across * weights).sum(1)
        self._spread = np.sqrt(np.maximum(spread.T, 1e-6 * scale))
        # what of an error of the means is left in the mean of what is foretold
        passed = np.eye(n_cells) - before @ among / n
        self._doubt = np.sqrt(((passed @ error) * passed).sum(1))

    def _widths(self) -> np.ndarray:
        """Spread of the leads of a cell and of those that act alike `[C]`, the own mean left out."""
        counts, sums = self.run.sum(1), np.where(self.run, self.lead, 0).sum(1)
        near = (self.kin - COMMON).clip(min=0) ** 2
        mean = (near @ sums) / (near @ counts).clip(min=1e-9)
        squares = np.where(self.run, (self.lead - mean[:, None]) ** 2, 0).sum(1)
        floor = 1e-3 * max(float(squares.sum() / max(counts.sum(), 1)), 1e-6)
        return np.sqrt((near @ squares / (near @ counts).clip(min=1e-9)).clip(min=floor))

    @property
    def _inflation(self) -> float:
        """By how much errors were larger than foretold."""
        made = np.concatenate([*self._errors, np.zeros(0)])
        if len(made) < len(self.kin):
            return 1.0
        return max(1.0, float(np.median(made) / MEDIAN))

    def _chances(self, node: float = 0.0, most: bool = False) -> np.ndarray:
        """Chances `[C, P]` if every cell does better than it seems, by `node` standard errors.

        `most`: the larger one of what errors of Student's and of Gauss' kind would give; the former have
        more of a chance where failure is foretold, and less where success is.
        """
        if self._center is None:
            self._foretell()
        spread = self._spread * self._inflation
        ahead = self._center / spread
        # the mean may be off, and the width by its share of 1 / sqrt(2 n) after n rows
        share = 1 / np.sqrt(2 * (WIDTH + self.run.sum(1)))[:, None]
        error = np.hypot(self._doubt[:, None] / spread, share * ahead)
        ahead = ahead + node * error
        chance = student_below(ahead)
        if most:
            chance = np.maximum(chance, ndtr(ahead))
        return np.where(self.run, self.won, chance.clip(LEAST, 1 - LEAST))

    @property
    def chances(self) -> np.ndarray:
        """`[C, P]`."""
        return self._chances()

    def at_least(self, needed: np.ndarray) -> np.ndarray:
        """By cell at most the chance of as many successes on all prompts as `needed` `[C]`."""
        n_nodes = len(_NODES)
        every = np.concatenate([self._chances(node, most=True) for node in _NODES])
        found = tail(every, np.tile(needed, n_nodes)).reshape(n_nodes, -1)
        return (_WEIGHTS[:, None] * found).sum(0)


def _places(run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By prompt the cells that were run on it `[P, K]`, filled up with others; and which are no filling."""
    most = int(run.sum(0).max())
    at = np.argsort(~run.T, axis=1, kind="stable")[:, :most]
    return at, np.take_along_axis(run.T, at, axis=1)


def _inverses(
    covariance: np.ndarray, at: np.ndarray, there: np.ndarray, jitter: float
) -> np.ndarray:
    """By prompt the inverse of the covariance of the cells that it was run in, `[P, K, K]`; else 0."""
    both = there[:, :, None] & there[:, None]
    among = np.where(both, covariance[at[:, :, None], at[:, None]], 0)
    diagonal = np.arange(at.shape[1])
    among[:, diagonal, diagonal] += np.where(there, jitter, 1)
    inverse = np.where(both, np.linalg.inv(among), 0)
    return (inverse + inverse.transpose(0, 2, 1)) / 2


def student_below(x: np.ndarray) -> np.ndarray:
    """The chance that Student's t with four degrees of freedom is below x."""
    squared = 1 + x**2 / 4
    return 0.5 + 0.375 * x / np.sqrt(squared) * (1 - x**2 / (12 * squared))


def tail(chances: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The chance of at least `needed` `[C]` successes among independent ones of `chances` `[C, P]`.

    Exact, but for what Chernoff's bound (1952) shows to be below 1e-9, which that bound stands for.
    """
    needed = np.asarray(needed)
    mean = chances.sum(1)
    found = np.where(needed <= 0, 1.0, 0.0)
    open_cells = (needed > 0) & (needed <= (chances > 0).sum(1))  # else it is certain either way
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.exp(needed - mean - needed * np.log(needed / mean))
    small = open_cells & (needed > mean) & (bound < 1e-9)
    found[small] = bound[small]
    exact = np.flatnonzero(open_cells & ~small)
    certain, possible = (chances == 1).sum(1), (chances > 0).sum(1)
    # successes are counted up to those that are needed, or failures up to those that may be
    by_failures = 2 * needed > certain + possible
    for cells, failing in ((exact[~by_failures[exact]], False), (exact[by_failures[exact]], True)):
        if failing:
            spared = possible[cells] - needed[cells]
            failures = np.where(chances[cells] > 0, 1 - chances[cells], 0)
            found[cells] = _fewer(failures, spared + 1)
        else:
            open_chances = np.where(chances[cells] < 1, chances[cells], 0)
            missing = (needed[cells] - certain[cells]).clip(min=0)
            found[cells] = 1 - _fewer(open_chances, missing)
    return found.clip(0, 1)


def _fewer(chances: np.ndarray, than: np.ndarray) -> np.ndarray:
    """The chance of fewer events than `than` `[C]`, of independent ones of `chances` `[C, P]`."""
    counts = np.zeros((len(chances), int(than.max(initial=0)) + 1))
    counts[:, 0] = 1
    for chance in chances.T[:, :, None]:
        moved = counts * chance
        counts -= moved
        counts[:, 1:] += moved[:, :-1]
    return np.array([row[:k].sum() for row, k in zip(counts, than)])
