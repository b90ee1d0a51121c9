"""Can this be set up where there is no network? A fresh clone, a wheelhouse, and the network cut.

    make wheelhouse && make offline          (Linux, as root: it makes a network namespace)

The commit that is checked out is cloned into a temporary folder. `make setup WHEELHOUSE=...` runs
there in a namespace with no network but a loopback that is down, with an empty home, none of pip's
settings and none of its caches. The packages that the study and its book are made of must then be
imported from the clone. Before that, the same set-up without the wheelhouse must fail: else the
network was not cut. Ends with `offline.json` beside this file, and with 1 if anything was not so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CUT = ("unshare", "--net", "--")
LOOK = "import memgen, press, torch; print(memgen.__file__, press.__file__, torch.__version__)"
REACH = "import socket; socket.create_connection(('pypi.org', 443), 10)"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("wheelhouse", type=Path, help="folder that `make wheelhouse` filled")
    wheelhouse = options.parse_args().wheelhouse.expanduser().resolve()
    if shutil.which("unshare") is None or os.geteuid() != 0:
        print("offline: a network namespace needs Linux, unshare and root", file=sys.stderr)
        return 1
    if not wheelhouse.is_dir():
        print(f"offline: no wheelhouse in {wheelhouse}: run `make wheelhouse`", file=sys.stderr)
        return 1
    begun = about(wheelhouse)  # the commit that is cloned, not one that is made meanwhile
    with tempfile.TemporaryDirectory(prefix="memgen-offline-") as folder:
        seen = tried(Path(folder), wheelhouse)
    text = json.dumps(begun | seen, indent=1)
    print(text)
    Path(__file__).with_name("offline.json").write_text(text + "\n", encoding="utf8")
    return 0 if all(value for value in seen.values() if isinstance(value, bool)) else 1


def tried(folder: Path, wheelhouse: Path) -> dict:
    """What happens in a fresh clone in `folder`, with the network cut."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    home = folder / "home"
    home.mkdir()
    # PIP_CONFIG_FILE: this machine's settings may name folders of packages, which are no network
    bare = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
    }

    def inside(*command: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [*CUT, *command], cwd=clone, env=bare, capture_output=True, text=True, check=False
        )
        print(f"{' '.join(command)[:90]}: {done.returncode}", flush=True)
        return done

    unreachable = inside("python3", "-c", REACH).returncode != 0
    without = inside("make", "setup")
    began = time.monotonic()
    done = inside("make", "setup", f"WHEELHOUSE={wheelhouse}")
    seconds = round(time.monotonic() - began)
    looked = inside(".venv/bin/python", "-c", LOOK)
    print((done.stdout + done.stderr + looked.stderr)[-2000:])
    where = looked.stdout.split()
    return {
        "index_out_of_reach": unreachable,
        "set_up_without_wheelhouse_fails": without.returncode != 0,
        "set_up_with_wheelhouse_ends_well": done.returncode == 0,
        "packages_of_the_clone_import": looked.returncode == 0
        and all(path.startswith(str(clone)) for path in where[:2]),
        "torch": where[-1] if where else "",
        "seconds": seconds,
    }


def about(wheelhouse: Path) -> dict:
    """Which wheelhouse, on which machine, of which commit."""
    files = [path for path in wheelhouse.iterdir() if path.suffix in (".whl", ".gz")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "files": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6),
    }


if __name__ == "__main__":
    sys.exit(main())
