"""The kernel that runs a lab: IPython's own, without anybody's configuration and startup files.

    python -m memgen.pipeline.kernel -f CONNECTION_FILE

IPython reads settings and runs files not only from the user's profile but from folders of the
system and of the Python installation too, and no variable turns these off.
"""

from __future__ import annotations

from ipykernel.kernelapp import IPKernelApp


class LabKernel(IPKernelApp):
    """It reads no file of settings, runs no startup file, and keeps no history of what was run."""

    def load_config_file(self, *_, **__) -> None:
        """Nothing is read."""

    def _run_startup_files(self) -> None:
        pass

    def init_shell(self) -> None:
        """As in IPython; the cells of a lab do not go to a data base on disk."""
        self.config.HistoryManager.enabled = False
        super().init_shell()


if __name__ == "__main__":
    LabKernel.launch_instance()
