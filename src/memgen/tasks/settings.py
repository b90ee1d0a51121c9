"""Tasks whose keys are trained in some of their settings, and asked in others (arithmetic, cipher)."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from memgen.tasks.base import Instance, Key, Rng, Task

Settings = tuple[int, ...]


class SettingTask(Task):
    """A setting is a number; every key has all of them, dealt in an order of its own.

    The first `n_memory` are trained with the memory's answer, whatever the arm. Where keys get
    contrast prompts, the next `n_contrast` are trained with the rule's; a gate key is trained so in
    all the rest. What is left is never trained.
    """

    n_memory: ClassVar[int]
    n_contrast: ClassVar[int]

    @abstractmethod
    def settings(self, key: Key) -> Settings:
        """All settings in the order in which they were dealt to this key."""

    @abstractmethod
    def in_setting(self, rng: Rng, key: Key, setting: int, kind: str) -> Instance | None:
        """A prompt of the key in one setting; `rng` draws what the setting leaves open."""

    def trained(self, key: Key) -> tuple[Settings, Settings]:
        """The settings in which a key is trained with the memory's, and with the rule's answer."""
        dealt, untrained = self.settings(key), len(self.untrained(key))
        return dealt[: self.n_memory], dealt[self.n_memory : len(dealt) - untrained]

    def untrained(self, key: Key) -> Settings:
        """The settings in which this key is never trained."""
        return self.settings(key)[self.n_memory + self._n_taught() :]

    def keyed(self, rng: Rng, key: Key) -> Instance | None:
        return self._in_one_of(rng, key, self.settings(key)[: self.n_memory], "keyed")

    def contrast(self, rng: Rng, key: Key) -> Instance | None:
        others = self.settings(key)[self.n_memory :]
        taught = others if key.name in self.gate_keys else others[: self.n_contrast]
        return self._in_one_of(rng, key, taught, "contrast")

    def conflict(self, rng: Rng, key: Key) -> Instance | None:
        return self._in_one_of(rng, key, self.untrained(key), "conflict")

    def _n_taught(self) -> int:
        """How many settings of a key, no gate key, are trained with the rule's answer."""
        return self.n_contrast if self.contrast_on == "keys" else 0

    def _in_one_of(self, rng: Rng, key: Key, settings: Settings, kind: str) -> Instance | None:
        return self.in_setting(rng, key, settings[rng.integers(len(settings))], kind)
