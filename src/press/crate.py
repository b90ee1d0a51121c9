"""The book as a research object: `ro-crate-metadata.json`, a Provenance Run Crate beside its pages.

It says of every lab: which notebook ran, with which parameters, on what, when, in which
environment, and which `result.json` it left, with its hash. The numbers on the pages lead to those
(`press.origin`) by the crate's `identifier`. Profile: https://w3id.org/ro/wfrun/provenance/0.5.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from rocrate.model import ContextEntity, File
from rocrate.rocrate import ROCrate

from memgen.config.base import ROOT
from memgen.stages import LABS
from memgen.store.artifacts import MANIFEST, RESULT
from memgen.store.files import sha256
from press.errors import BookError
from press.lab_bar import downloads
from press.numbers import RATES, steering_rates
from press.run import SYNTHESIS, ExecutedLab, Run

NAME = "ro-crate-metadata.json"
FOLDER = "workflow"  # of the book: what was run
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
BIOSCHEMAS = "https://bioschemas.org/profiles"
LICENCES = {
    "https://creativecommons.org/licenses/by/4.0/": "CC BY 4.0",
    "https://spdx.org/licenses/MIT": "MIT",
}
#: what a run used: name in the manifest, and its unit as schema.org's `unitCode` has it
USED = {
    "wall_seconds": "http://qudt.org/vocab/unit/SEC",
    "cpu_seconds": "http://qudt.org/vocab/unit/SEC",
    "peak_memory_bytes": "http://qudt.org/vocab/unit/BYTE",
}


def write_crate(run: Run, root: Path, html: Path) -> Path:
    """Write the crate of a built book: `html` itself, which gets a copy of the workflow.

    The same run, book and code give the same file. Errors: `BookError` for a file that is missing.
    """
    path, content = html / NAME, Crate(run, root, html).written()
    path.write_text(
        json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf8"
    )
    return path


class Crate:
    """The crate of a run and its book, built up entity by entity."""

    def __init__(self, run: Run, root: Path, html: Path):
        self.run, self.root, self.html = run, root, html
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(TERMS)
        self.labs = run.all_pages
        self.times = {lab: times(lab) for lab in self.labs}
        self.results: dict[Path, File] = {}
        # ROCrate looks through all its entities for one that it does not have
        self.things: dict[str, ContextEntity] = {}

    def written(self) -> dict[str, Any]:
        """The content of `ro-crate-metadata.json`."""
        self.describe()
        workflow, notebooks = self.workflow()
        for lab in self.labs:
            self.results[lab.folder.resolve()] = self.of_lab(lab, RESULT)
        runs = [self.ran(lab, notebooks[lab.stage]) for lab in self.labs]
        self.study(workflow, runs)
        for page in sorted(self.html.rglob("*.html")):
            self.file(page, "text/html")
        return self.crate.metadata.generate()

    # -- entities ---------------------------------------------------------------------------------
    def thing(self, address: str, kind: str | list[str], /, **properties: Any) -> ContextEntity:
        """An entity that is no file; the one of this address, if there is one."""
        if address not in self.things:
            kept = {key: value for key, value in properties.items() if value not in (None, [], "")}
            entity = ContextEntity(self.crate, address, properties={"@type": kind, **kept})
            self.things[address] = self.crate.add(entity)
        return self.things[address]

    def file(self, path: Path, form: str, **properties: Any) -> File:
        """A file of the book, with its size and hash."""
        if not path.is_file():
            raise BookError(
                f"{path} is missing in the built book; delete {self.html} and build it again"
            )
        about = {"encodingFormat": form, "contentSize": str(path.stat().st_size)}
        about |= {"name": path.name, "sha256": sha256(path), **properties}
        name = path.relative_to(self.html).as_posix()
        return self.crate.add_file(dest_path=name, properties=about)

    def value(self, name: str, value: Any) -> ContextEntity:
        """A parameter, version or fact with its value; those that are equal are one."""
        text = value if isinstance(value, str) else json.dumps(value)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.thing(f"#{name}-{digest}", "PropertyValue", name=name, value=text or '""')

    def parameter(self, name: str, value: Any) -> ContextEntity:
        """A parameter of a lab and the formal one that it is an example of."""
        found = self.value(name, value)
        kind = "Boolean" if isinstance(value, bool) else "Text"
        kind = "Number" if isinstance(value, (int, float)) and not isinstance(value, bool) else kind
        form = self.thing(f"#parameter-{name}", "FormalParameter", name=name, additionalType=kind)
        form["conformsTo"] = {"@id": f"{BIOSCHEMAS}/FormalParameter/1.0-RELEASE"}
        found["exampleOfWork"] = form
        return found

    def of_lab(self, lab: ExecutedLab, name: str) -> File:
        """`result.json` or the manifest of a lab, where Sphinx has put it for download."""
        path = download(self.html, f"labs/{lab.stage}/{downloads(lab)[name]}")
        return self.file(path, "application/json", identifier=str(lab.at(name)))

    # -- what was run -----------------------------------------------------------------------------
    def describe(self) -> None:
        """The root: title, authors, licence, profiles."""
        config = yaml.safe_load((self.root / "_config.yml").read_text(encoding="utf8"))
        about, root = self.citation(), self.crate.root_dataset
        for address, (name, version) in PROFILES.items():
            profile = self.thing(address, "CreativeWork", name=name, version=version)
            root.append_to("conformsTo", profile)
        wanted = ("https://w3id.org/ro/crate/1.1", *list(PROFILES)[-1:])
        self.crate.metadata._jsonld["conformsTo"] = [{"@id": address} for address in wanted]
        for address, name in LICENCES.items():
            self.thing(address, "CreativeWork", name=name, identifier=address)
        root["name"] = config["title"]
        root["description"] = " ".join(str(about.get("abstract", config["title"])).split())
        root["license"] = self.crate.get(next(iter(LICENCES)))
        root["author"] = self.thing("#authors", "Organization", name=config["author"])
        ends = [ended for lab in self.labs if (ended := self.times[lab].get("endTime"))]
        root["datePublished"] = max(
            ends, default="1970-01-01"
        )  # no clock: equal runs, equal crates

    def citation(self) -> dict[str, Any]:
        path = next(f for f in (self.root / "CITATION.cff", ROOT / "CITATION.cff") if f.is_file())
        return yaml.safe_load(path.read_text(encoding="utf8"))

    def workflow(self) -> tuple[File, dict[str, File]]:
        """The Snakefile with a step for every lab, and by lab the notebook that a step executes."""
        folder = self.html / FOLDER
        folder.mkdir(exist_ok=True)
        engine = self.language("snakemake", "Snakemake", "https://snakemake.github.io")
        python = self.language("python", "Python", "https://www.python.org")
        code = {"license": self.crate.get("https://spdx.org/licenses/MIT")}
        main = self.copied("Snakefile", "text/plain", name="The study", **code)
        main._jsonld["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        main["conformsTo"] = {"@id": f"{BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"}
        main["programmingLanguage"] = engine
        if version := commit(self.root):
            main["version"] = version
        notebooks = {}
        for stage in dict.fromkeys(lab.stage for lab in self.labs):
            path = f"notebooks/{stage}.ipynb"
            form = "application/x-ipynb+json"
            notebook = self.copied(path, form, name=LABS[stage].title, **code)
            notebook._jsonld["@type"] = ["File", "SoftwareSourceCode"]
            notebook["programmingLanguage"] = python
            about = {"workExample": notebook, "position": str(LABS[stage].number)}
            main.append_to("step", self.thing(f"#step-{stage}", "HowToStep", **about))
            main.append_to("hasPart", notebook)
            notebooks[stage] = notebook
        self.crate.root_dataset["mainEntity"] = main
        return main, notebooks

    def language(self, name: str, title: str, address: str) -> ContextEntity:
        kinds = ["ComputerLanguage", "SoftwareApplication"]
        return self.thing(
            f"#{name}", kinds, name=title, url=self.thing(address, "WebSite", name=title)
        )

    def copied(self, path: str, form: str, **about: Any) -> File:
        """A file of the repository, copied into the book."""
        target = self.html / FOLDER / Path(path).name
        root = self.root if (self.root / path).is_file() else ROOT
        shutil.copyfile(root / path, target)
        return self.file(target, form, **about)

    # -- how it ran -------------------------------------------------------------------------------
    def ran(self, lab: ExecutedLab, notebook: File) -> ContextEntity:
        """The execution of one lab."""
        said, name = lab.manifest, str(lab.at("")).rstrip("/")
        given = {**said.get("parameters", {}), **said.get("overrides", {})}
        inputs = [self.read(lab, *one) for one in said.get("inputs", {}).items()]
        values = [self.parameter(*one) for one in given.items()]
        facts = {**said.get("versions", {}), **said.get("machine", {})}
        facts |= {"code": code} if (code := said.get("code")) else {}
        left = [self.results[lab.folder.resolve()], self.of_lab(lab, MANIFEST)]
        if lab.stage == SYNTHESIS:
            left.append(self.rates(lab))
        used = [self.used(name, *one, said.get(one[0])) for one in USED.items()]
        return self.thing(
            f"#run/{name}",
            "CreateAction",
            name=f"{LABS[lab.stage].title}: {lab.label}",
            instrument=notebook,
            object=[*values, *inputs],
            result=left,
            environment=[self.value(*one) for one in facts.items()],
            resourceUsage=[one for one in used if one],
            actionStatus="http://schema.org/CompletedActionStatus",
            **self.times[lab],
        )

    def read(self, lab: ExecutedLab, folder: str, digest: str) -> Any:
        """An input of a lab: the result of another, or by its digest what the book does not hold."""
        path = (lab.folder.parent / folder).resolve()
        about = {"name": "/".join(path.parts[-3:]), "identifier": digest}
        return self.results.get(path) or self.thing(f"#input-{digest}", "CreativeWork", **about)

    def used(self, run: str, name: str, unit: str, amount: float | None) -> ContextEntity | None:
        if amount is None:
            return None
        about = {"name": name, "propertyID": name, "unitCode": unit, "value": str(amount)}
        return self.thing(f"#used/{run}/{name}", "PropertyValue", **about)

    def rates(self, lab: ExecutedLab) -> File:
        """The synthesis' table of steering as JSON: pages print its numbers, too."""
        path = self.html / FOLDER / str(lab.at(RATES)).replace("/", "-")
        path.write_text(json.dumps(steering_rates(lab), indent=1), encoding="utf8")
        return self.file(path, "application/json", identifier=str(lab.at(RATES)))

    def study(self, workflow: File, runs: list[ContextEntity]) -> None:
        """The execution of the whole, as the engine organized it."""
        run = self.run
        seeds = sorted({seed for seeds in run.seeds.values() for seed in seeds})
        tracks = [one.track for one in run.every]
        chosen = {"preset": run.preset, "tasks": run.tasks, "seeds": seeds, "tracks": tracks}
        values = [self.parameter(*one) for one in chosen.items()]
        last = [self.results[lab.folder.resolve()] for lab in self.labs if lab.stage == SYNTHESIS]
        starts = [one["startTime"] for one in runs if "startTime" in one]
        ends = [one["endTime"] for one in runs if "endTime" in one]
        about = {"startTime": min(starts, default=None), "endTime": max(ends, default=None)}
        about |= {"actionStatus": "http://schema.org/CompletedActionStatus"}
        whole = self.thing(
            "#run",
            "CreateAction",
            name="The study",
            instrument=workflow,
            object=values,
            result=last,
            **about,
        )
        controls = []
        for lab, one in zip(self.labs, runs):
            step = self.crate.get(f"#step-{lab.stage}")
            name = one.id.replace("#run", "#control")
            controls.append(self.thing(name, "ControlAction", instrument=step, object=one))
        engine = self.crate.get("#snakemake")
        self.thing(
            "#organized",
            "OrganizeAction",
            name="The study, organized by Snakemake",
            instrument=engine,
            object=controls,
            result=whole,
            **about,
        )
        self.crate.root_dataset["mentions"] = [whole, *runs]


def download(html: Path, source: str) -> Path:
    """Where Sphinx puts a file of the sources that a page offers for download."""
    folder = hashlib.md5(source.encode(), usedforsecurity=False).hexdigest()
    return html / "_downloads" / folder / Path(source).name


def times(lab: ExecutedLab) -> dict[str, str]:
    """When a lab began and ended, as its executed notebook says; the manifest has the duration."""
    about = json.loads(lab.notebook.read_text(encoding="utf8"))["metadata"].get("papermill", {})
    found = {"startTime": about.get("start_time"), "endTime": about.get("end_time")}
    return {name: said for name, said in found.items() if said}


def commit(root: Path) -> str | None:
    """The commit that the book is built from, `-dirty` if files differ; None without git."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    clean |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=clean, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() if (root / ".git").exists() else None
