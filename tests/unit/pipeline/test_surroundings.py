"""A run depends on the repository, its parameters and the machine, not on what its user has set up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memgen.config.base import ROOT
from memgen.pipeline import surroundings as made
from memgen.pipeline.surroundings import is_clean, passing, surroundings
from memgen.store.numerics import PORTABLE

#: of every tool that is used: none of these reaches a run
FOREIGN = {
    "PYTHONSTARTUP": "startup.py",
    "PYTHONPATH": "planted",
    "PYTHONHASHSEED": "7",
    "PYTHONWARNINGS": "ignore",
    "PYTHONOPTIMIZE": "1",
    "PYTHONHOME": "",
    "IPYTHONDIR": "ipython",
    "JUPYTER_PATH": "jupyter",
    "JUPYTER_CONFIG_DIR": "jupyter",
    "JUPYTER_PREFER_ENV_PATH": "0",
    "MPLCONFIGDIR": "matplotlib",
    "MPLBACKEND": "nonsense",
    "MATPLOTLIBRC": "matplotlib",
    "OMP_NUM_THREADS": "3",
    "OMP_SCHEDULE": "dynamic",
    "MKL_CBWR": "AVX",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "TORCH_LOGS": "all",
    "SNAKEMAKE_PROFILE": "profile",
    "SNAKEMAKE_OUTPUT_CACHE": "cache",
    "PIP_TARGET": "elsewhere",
    "HF_HOME": "hub",
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_CACHE": "hub",
    "TOKENIZERS_PARALLELISM": "true",
    "GIT_DIR": "elsewhere",
    "XDG_CONFIG_HOME": "config",
    "BASH_ENV": "startup.sh",
    "LD_PRELOAD": "",
    "PAPERMILL_TRANSLATORS": "x",
}
#: what a machine has to say
NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/ada",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C",
    "TMPDIR": "/scratch",
    "MEMGEN_THREADS": "2",
    "MEMGEN_ROOT": "/repository",
    "SLURM_JOB_ID": "3",
    "CUDA_VISIBLE_DEVICES": "1",
}


def test_what_a_machine_says_passes_and_nothing_else(tmp_path):
    assert passing(FOREIGN | NEEDED) == NEEDED
    found = surroundings(tmp_path, found=FOREIGN | NEEDED)
    assert found.items() >= NEEDED.items() and is_clean(found) and not is_clean(FOREIGN)
    for name, value in FOREIGN.items():
        assert found.get(name) != value, name
    assert surroundings(tmp_path, found=found) == found  # a run inside a run
    folders = {name for name, value in found.items() if value.startswith(str(tmp_path))}
    assert folders >= {"IPYTHONDIR", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"}
    assert Path(found["PYTHONPATH"]) == Path(made.__file__).parents[2]


def test_the_kernels_of_a_run_are_in_its_own_arithmetic(tmp_path):
    portable = surroundings(tmp_path, "portable", FOREIGN | NEEDED)
    assert portable.items() >= PORTABLE.items()
    native = surroundings(tmp_path, "native", FOREIGN)
    assert not {"MKL_CBWR", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"} & set(native)


def test_the_kernel_is_this_python_before_all_others(tmp_path):
    found = surroundings(tmp_path, found=NEEDED)
    first = Path(found["JUPYTER_PATH"]) / "kernels" / "python3" / "kernel.json"
    assert json.loads(first.read_text())["argv"][0] == sys.executable
    server = tmp_path / "server"
    (server / "kernels").mkdir(parents=True)
    warm = surroundings(tmp_path, found=NEEDED | {"MEMGEN_WARM": str(server / "socket")})
    assert warm["JUPYTER_PATH"].split(os.pathsep) == [str(server), found["JUPYTER_PATH"]]


def test_libraries_are_told_one_thing_however_they_are_started(tmp_path):
    code = "import json, memgen, os; print(json.dumps(dict(os.environ)))"
    for mine, home in (({}, "/home/ada/.cache/huggingface"), ({"MEMGEN_HF_HOME": "/hub"}, "/hub")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"HOME": "/home/ada", "HF_HUB_CACHE": "/x", "TRANSFORMERS_CACHE": "/x"}
            | {"HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "3", "PYTHONPATH": str(ROOT / "src")}
            | mine,
            capture_output=True,
            check=True,
        )
        told = json.loads(done.stdout)
        assert told["HF_HOME"] == home and told["HF_HUB_OFFLINE"] == "1"
        assert not {"HF_HUB_CACHE", "TRANSFORMERS_CACHE"} & set(told)
        assert told["OMP_NUM_THREADS"] == "1"


@pytest.fixture
def planted(tmp_path) -> dict[str, str]:
    """The environment of a user who has set up everything, and each of it would change a run or end it."""
    files = {
        "home/.ipython/profile_default/startup/00.py": "seed = 42; n_keys = 5; n_kyes = 1",
        "home/.ipython/profile_default/ipython_kernel_config.py": "raise SystemExit('foreign')",
        "home/.config/matplotlib/matplotlibrc": "savefig.dpi: 7",
        "home/.local/share/jupyter/kernels/python3/kernel.json": '{"argv": ["false"]}',
        "jupyter/kernels/python3/kernel.json": (
            '{"argv": ["false"], "display_name": "x", "language": "python"}'
        ),
        "startup.py": "seed = 44; raise SystemExit('foreign')",
        "startup.sh": "exit 3",
        "planted/papermill.py": "raise SystemExit('foreign')",
        "planted/ipykernel.py": "raise SystemExit('foreign')",
        "planted/snakemake.py": "raise SystemExit('foreign')",
        "profile/config.yaml": "dry-run: true",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ours = {name: value for name, value in os.environ.items() if name == "PATH"}
    leading = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path / 'planted'}"}
    set_up = {
        name: str(tmp_path / value) if (tmp_path / value).exists() and value else value
        for name, value in FOREIGN.items()
        if name not in ("PYTHONHOME", "LD_PRELOAD", "PYTHONOPTIMIZE")
    }
    return ours | set_up | leading | {"HOME": str(tmp_path / "home")}


def made_by(command: list[str], environment: dict[str, str], runs: Path) -> dict:
    """Run lab 01 of seed 6, and return the parameters that its results were made with."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (manifest,) = runs.glob("smoke/inference/*/01_dataset_design/manifest.json")
    assert manifest.parents[1].name == "seed6"
    return json.loads(manifest.read_text())["parameters"]


@pytest.mark.slow
def test_one_lab_alone_does_not_see_what_its_user_has_set_up(planted, tmp_path):
    """Through `make`, and in a folder for built files that is not there yet."""
    ready = ["-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}"]
    asked = ["LAB=01_dataset_design", "TASK=inference", "SEED=6", "PRESET=smoke"]
    asked += ["SET=key_shares=[0.5, 0.2, 0.3] n_free=2e2", f"RUNS={tmp_path / 'runs'}"]
    out = tmp_path / "not" / "there"
    command = ["make", *ready, "lab", *asked, f"OUT={out}"]
    done = subprocess.run(command, cwd=ROOT, env=planted, capture_output=True, text=True)
    assert "n_free=200.0" in done.stderr and not out.exists()  # the same parser as `make check`
    command = [word.replace("n_free=2e2", "n_free=200") for word in command]
    found = made_by(command, planted, tmp_path / "runs")
    assert (found["seed"], found["n_keys"], found["n_free"]) == (6, 16, 200)
    assert (out / "01_dataset_design.ipynb").is_file()


@pytest.mark.slow
def test_a_study_does_not_see_what_its_user_has_set_up(planted, tmp_path):
    runs = tmp_path / "runs"
    code = (
        "from memgen.pipeline.plan import Plan; from memgen.pipeline.runner import run_labs;"
        f"run_labs(Plan('smoke', ['inference'], [6], {str(runs)!r}, labs=['01_dataset_design']), 1)"
    )
    found = made_by([sys.executable, "-c", code], planted, runs)
    assert (found["seed"], found["n_keys"]) == (6, 16)
