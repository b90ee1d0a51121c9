"""GGUF files for tests: a tiny one in a wheel, and one more reader, which shares nothing with transformers.

    python tests/gguf_files.py FILE.gguf > tests/unit/models/packaged/NAME.json

writes what a packaged model says by that reader: the numbers come from the package `gguf`, the forward
pass is written out here in float64 as llama.cpp does it, so neither the names and order of weights nor the
configuration is transformers'.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent / "src"), str(TESTS)]

from hub import byte_level_bpe  # noqa: E402
from memgen.models.conversion import PROMPTS  # noqa: E402
from memgen.models.packaged import Packaged, Wheel  # noqa: E402

HELD = "tiny/model.gguf"
#: width, hidden units, layers, heads, heads of keys
SHAPE = (64, 96, 2, 4, 2)


# -- another reader ----------------------------------------------------------------------------------
class Gguf:
    """A LLaMA or a Gemma 3 in a GGUF file with tied embeddings: its numbers, and its logits.

    Of Gemma 3: embeddings are scaled, queries and keys are normed head by head, four norms a block (the
    file's already have their 1 added), rotary positions turn the two halves of a head, five of six layers
    by a base of their own, and GELU. Its windows are longer than what is asked here.
    """

    def __init__(self, path: Path):
        from gguf import GGUFReader, dequantize

        reader = GGUFReader(path)
        self.weights = {one.name: dequantize(one.data, one.tensor_type) for one in reader.tensors}
        kind = reader.fields["general.architecture"].contents()
        self.gemma = kind == "gemma3"

        def said(name: str):
            return reader.fields[name].contents()

        self.tokens = said("tokenizer.ggml.tokens")
        self.layers, self.heads = said(f"{kind}.block_count"), said(f"{kind}.attention.head_count")
        self.key_heads, self.base = (
            said(f"{kind}.attention.head_count_kv"),
            said(f"{kind}.rope.freq_base"),
        )
        self.epsilon = said(f"{kind}.attention.layer_norm_rms_epsilon")

    def _of(self, name: str) -> np.ndarray:
        return self.weights[f"{name}.weight"].astype(np.float64)

    def _normed(self, h: np.ndarray, name: str) -> np.ndarray:
        scale = np.sqrt((h**2).mean(-1, keepdims=True) + self.epsilon)
        return h / scale * self._of(name)

    def _turned(self, x: np.ndarray, layer: int) -> np.ndarray:
        """Rotary positions on `[T, heads, width]`: neighbours turn together, in Gemma the two halves."""
        width = x.shape[-1]
        base = 10_000.0 if self.gemma and (layer + 1) % 6 else self.base
        speed = base ** (-np.arange(0, width, 2) / width)
        angle = np.arange(len(x))[:, None, None] * speed
        half = slice(0, width // 2), slice(width // 2, width)
        first, second = half if self.gemma else (slice(0, None, 2), slice(1, None, 2))
        turned = np.empty_like(x)
        turned[..., first] = x[..., first] * np.cos(angle) - x[..., second] * np.sin(angle)
        turned[..., second] = x[..., first] * np.sin(angle) + x[..., second] * np.cos(angle)
        return turned

    def _attended(self, h: np.ndarray, layer: int) -> np.ndarray:
        block, n = f"blk.{layer}", len(h)
        x = self._normed(h, f"{block}.attn_norm")
        query, key, value = (
            (x @ self._of(f"{block}.attn_{name}").T).reshape(n, heads, -1)
            for name, heads in (("q", self.heads), ("k", self.key_heads), ("v", self.key_heads))
        )
        if self.gemma:
            query = self._normed(query, f"{block}.attn_q_norm")
            key = self._normed(key, f"{block}.attn_k_norm")
        query, key = self._turned(query, layer), self._turned(key, layer)
        key, value = (one.repeat(self.heads // self.key_heads, axis=1) for one in (key, value))
        scores = np.einsum("thd,shd->hts", query, key) / np.sqrt(query.shape[-1])
        scores[:, np.triu(np.ones((n, n), dtype=bool), 1)] = -np.inf
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", share, value).reshape(n, -1)
        out = mixed @ self._of(f"{block}.attn_output").T
        return self._normed(out, f"{block}.post_attention_norm") if self.gemma else out

    def _fed_forward(self, h: np.ndarray, layer: int) -> np.ndarray:
        block = f"blk.{layer}"
        x = self._normed(h, f"{block}.ffn_norm")
        gate = x @ self._of(f"{block}.ffn_gate").T
        if self.gemma:
            bent = np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))
            gate = 0.5 * gate * (1 + bent)
        else:
            gate = gate / (1 + np.exp(-gate))
        out = (gate * (x @ self._of(f"{block}.ffn_up").T)) @ self._of(f"{block}.ffn_down").T
        return self._normed(out, f"{block}.post_ffw_norm") if self.gemma else out

    def logits(self, ids: list[int]) -> np.ndarray:
        """After the last of these tokens, `[vocabulary]`."""
        table = self.weights["token_embd.weight"]
        h = table[ids].astype(np.float64)
        h = h * np.sqrt(h.shape[-1]) if self.gemma else h
        for layer in range(self.layers):
            h = h + self._attended(h, layer)
            h = h + self._fed_forward(h, layer)
        last = self._normed(h, "output_norm")[-1]
        parts = np.array_split(table, max(1, len(table) // 2**15))  # float64 of it all may not fit
        return np.concatenate([part.astype(np.float64) @ last for part in parts])


# -- a tiny file, in a wheel -------------------------------------------------------------------------
def write_tiny(path: Path) -> Path:
    """A LLaMA of random 4-bit weights with a tokenizer of 330 tokens at most."""
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    tokenizer = byte_level_bpe(list(PROMPTS), begin=False)
    said = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    width, units, layers, heads, key_heads = SHAPE
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(units)
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(len(said["vocab"]))
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(said["vocab"], key=said["vocab"].get)
    tokens[tokenizer.bos_token_id] = "<|endoftext|>"  # else transformers adds it as one more
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in said["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.bos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id)
    draw = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", draw.uniform(0.5, 1.5, shape).astype(np.float32))
            return
        kind = GGMLQuantizationType.Q4_1
        numbers = draw.normal(0, 0.3, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quants.quantize(numbers, kind), raw_dtype=kind)

    add("token_embd", len(said["vocab"]), width)
    for layer in range(layers):
        block, keys = f"blk.{layer}", width // heads * key_heads
        add(f"{block}.attn_norm", width)
        for name, shape in (("q", width), ("k", keys), ("v", keys), ("output", width)):
            add(f"{block}.attn_{name}", shape, width)
        add(f"{block}.ffn_norm", width)
        for name, shape in (
            ("gate", (units, width)),
            ("up", (units, width)),
            ("down", (width, units)),
        ):
            add(f"{block}.ffn_{name}", *shape)
    add("output_norm", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(folder: Path, held: dict[str, bytes], project: str = "tiny-model") -> Path:
    """A wheel of version 1.0 that holds these files."""
    name = project.replace("-", "_")
    about = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    written = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in {**held, **written}.items():
            archive.writestr(zipfile.ZipInfo(one), content)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny_packaged(folder: Path, gguf: Path, parts: int = 1) -> Packaged:
    """The file in wheels that are written to `folder`, and the entry that pins them."""
    content, wheels = gguf.read_bytes(), []
    for part, piece in enumerate(np.array_split(np.frombuffer(content, np.uint8), parts)):
        project = f"tiny-model-part{part}" if parts > 1 else "tiny-model"
        held = {HELD: piece.tobytes(), "tiny/LICENSE": b"Do as you like.\n"}
        path = write_wheel(folder, held, project)
        wheels.append(Wheel(project, "1.0", digest(path), HELD))
    return Packaged(
        name="tiny",
        title="Tiny",
        architecture="LlamaForCausalLM",
        wheels=tuple(wheels),
        sha256=digest(gguf),
        megabytes=(1, 2),
        quantization="Q4_1",
        source="nowhere",
        licence="MIT",
        licence_text="tiny/LICENSE",
    )


def said_by_hand(path: Path) -> dict:
    """By prompt: its tokens, and the five likeliest next ones with their logits."""
    from transformers import AutoTokenizer

    model, found = Gguf(path), {}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        logits = model.logits(ids)
        best = np.argsort(-logits)[:5]
        found[prompt] = {
            "ids": ids,
            "next": {
                model.tokens[token]: [int(token), round(float(logits[token]), 5)] for token in best
            },
        }
    return {"gguf": digest(path), "prompts": found}


def as_lines(found: dict) -> str:
    """As JSON, one prompt a line."""
    told = (
        f"  {json.dumps(prompt)}: {json.dumps(said, ensure_ascii=False)}"
        for prompt, said in found["prompts"].items()
    )
    lines = ",\n".join(told)
    return f'{{\n "gguf": "{found["gguf"]}",\n "prompts": {{\n{lines}\n }}\n}}\n'


if __name__ == "__main__":
    print(as_lines(said_by_hand(Path(sys.argv[1]))), end="")
