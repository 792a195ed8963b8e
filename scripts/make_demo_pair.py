"""Make the pair of small language models that `eckart demo` works on.

Both are byte-level Llama models of 1.3 million parameters, stored in bfloat16:

- `base` is pre-trained from random weights on the King James Bible (public domain);
- `tuned` starts from the stored `base` and has all its weights fine-tuned on the Python source
  of the standard library of the interpreter that runs this script (PSF-2.0).

Run it from the repository's root, with about fifteen minutes of two CPU cores::

    apt-get install bible-kjv bible-kjv-text
    pip install torch transformers safetensors numpy
    python scripts/make_demo_pair.py --out src/eckart/demo/data

It prints the running loss, then the held-out losses in nats per byte, and writes below `--out`

- `base/` and `tuned/`, each with a `config.json` and a `model.safetensors` that
  `transformers.LlamaForCausalLM.from_pretrained` loads;
- `heldout-english.txt` and `heldout-python.txt`, text that neither training run saw;
- `FIGURES.json`, the losses, steps, tokens, seconds, sources and versions.

The seed fixes the initial weights and the order of the text. The last digits still depend on the
processor and on the version of PyTorch, and the Python text on the version of the interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = 256
HELDOUT_SHARE = 0.02
EXCERPT_BYTES = 32 * 1024

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 160,
    "intermediate_size": 432,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    # Every byte is text: no value is left over to mark a beginning or an end.
    "bos_token_id": None,
    "eos_token_id": None,
    "torch_dtype": "bfloat16",
}

# Tests and bundled packages are not what a reader would call the library's source; the character
# tables of `encodings` and the manual in `pydoc_data` are data; `_sysconfigdata` and `config-*`
# are written by the build and name the folders of the machine that made it.
SKIPPED_FOLDERS = {
    "__pycache__", "_bundled", "dist-packages", "encodings", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests",
}  # fmt: skip
SKIPPED_PREFIXES = ("config-", "_sysconfigdata")

# Files of the standard library that came with a notice of their own. Some of those were relicensed
# to the PSF; leaving them all out is simpler than judging each, and costs a quarter of the text.
FOREIGN_NOTICE = re.compile(
    r"^(?!.*Python Software Foundation).*"
    r"(copyright:? +(\(c\)|\d{4}|disney)|\(c\) +(copyright|\d{4})|all rights reserved|spdx"
    r"|permission (is|to use)|licen[sc]ed (to|under)|license: )",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Corpus:
    """A text cut between whole documents into a part to train on and a part to test on."""

    source: str
    train: bytes
    heldout: bytes
    heldout_names: list[str]

    @property
    def excerpt(self) -> bytes:
        """The first whole lines of the held-out part, as many as `EXCERPT_BYTES` takes."""
        return self.heldout[: self.heldout.rindex(b"\n", 0, EXCERPT_BYTES) + 1]


def split(source: str, documents: dict[str, bytes]) -> Corpus:
    """Hold out the fewest last documents that make up `HELDOUT_SHARE` of the text."""
    names = list(documents)
    wanted = HELDOUT_SHARE * sum(map(len, documents.values()))
    cut, held = len(names), 0
    while held < wanted:
        cut -= 1
        held += len(documents[names[cut]])
    train, heldout = (b"".join(documents[name] for name in p) for p in (names[:cut], names[cut:]))
    return Corpus(source, train, heldout, names[cut:])


def english() -> Corpus:
    """The King James Bible, a verse to a line without its reference, a blank line after a book."""
    command = ["bible", "-f", "Gen1:1-Rev22:21"]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except FileNotFoundError:
        sys.exit("make_demo_pair: no `bible` program: apt-get install bible-kjv bible-kjv-text")
    books: dict[str, list[str]] = {}
    for line in run.stdout.decode("ascii").splitlines():
        reference, verse = line.split(" ", 1)
        book = re.sub(r"\d+:\d+$", "", reference)
        books.setdefault(book, []).append(verse + "\n")
    documents = {book: ("".join(verses) + "\n").encode() for book, verses in books.items()}
    return split("King James Bible, Debian package bible-kjv-text", documents)


def python() -> Corpus:
    """The Python files of this interpreter's standard library, in the order of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = {}
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        inside = path.relative_to(root)
        if SKIPPED_FOLDERS & set(inside.parts) or inside.parts[0].startswith(SKIPPED_PREFIXES):
            continue
        text = path.read_bytes()
        if not FOREIGN_NOTICE.search(text.decode("utf-8", errors="replace")):
            documents[inside.as_posix()] = text
    return split(f"CPython {platform.python_version()} standard library", documents)


def train(
    model: LlamaForCausalLM,
    text: bytes,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> float:
    """Train every weight of `model` on random windows of `text`; return the seconds it took."""
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=(0.9, 0.95),
    )
    warmup = max(1, steps // 20)

    def schedule(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    model.train()
    started, running = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - CONTEXT, (batch,), generator=generator)
        windows = tokens[starts[:, None] + torch.arange(CONTEXT + 1)].long()  # (batch, CONTEXT + 1)
        logits = model(windows[:, :-1]).logits  # (batch, CONTEXT, 256)
        loss = cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        running += loss.item()
        if step % 100 == 0:
            seconds = time.perf_counter() - started
            print(f"  step {step:5d}  loss {running / 100:.4f}  {seconds:6.0f} s", flush=True)
            running = 0.0
    return time.perf_counter() - started


@torch.no_grad()
def loss_on(model: LlamaForCausalLM, text: bytes) -> float:
    """Mean next-byte loss in nats, each byte after the first predicted once, in its own window."""
    model.eval()
    tokens = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    total = 0.0
    for start in range(0, len(tokens) - 1, CONTEXT):
        window = tokens[start : start + CONTEXT + 1]
        logits = model(window[None, :-1]).logits[0]  # (up to CONTEXT, 256)
        total += cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (len(tokens) - 1)


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Store the weights of `model` in bfloat16, with its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().to(torch.bfloat16) for name, p in model.state_dict().items()}
    stored = safetensors.torch.save(weights, metadata={"format": "pt"})
    (folder / "model.safetensors").write_bytes(stored)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def load(folder: Path) -> LlamaForCausalLM:
    """Read stored weights into a float32 model."""
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    model.load_state_dict({name: w.float() for name, w in weights.items()})
    return model


def describe(corpus: Corpus) -> dict[str, object]:
    return {
        "source": corpus.source,
        "train_bytes": len(corpus.train),
        "train_sha256": hashlib.sha256(corpus.train).hexdigest(),
        "heldout_documents": corpus.heldout_names,
        "heldout_bytes": len(corpus.heldout),
        "excerpt_bytes": len(corpus.excerpt),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--base-steps", type=int, default=1200)
    parser.add_argument("--tuned-steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=8, help=f"windows of {CONTEXT} bytes a step")
    parser.add_argument("--base-lr", type=float, default=3e-3)
    parser.add_argument("--tuned-lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    texts = {"english": english(), "python": python()}
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    parameters = sum(p.numel() for p in model.parameters())

    runs, losses = {}, {}
    for name, text, steps, learning_rate, weight_decay in (
        ("base", "english", options.base_steps, options.base_lr, 0.1),
        ("tuned", "python", options.tuned_steps, options.tuned_lr, 0.01),
    ):
        print(f"{name}: {steps} steps on {texts[text].source}", flush=True)
        seconds = train(
            model,
            texts[text].train,
            steps=steps,
            batch=options.batch,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            seed=options.seed,
        )
        save(model, options.out / name)
        # From here on the model is what the file holds: rounded to bfloat16.
        model = load(options.out / name)
        losses[name] = {key: loss_on(model, corpus.excerpt) for key, corpus in texts.items()}
        print(f"{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in losses[name].items()), flush=True)
        runs[name] = {
            "text": text,
            "steps": steps,
            "tokens": steps * options.batch * CONTEXT,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "seconds": round(seconds),
        }

    for key, corpus in texts.items():
        (options.out / f"heldout-{key}.txt").write_bytes(corpus.excerpt)
    figures = {
        "parameters": parameters,
        "context": CONTEXT,
        "heldout_loss_nats_per_byte": losses,
        "training": runs,
        "batch": options.batch,
        "seed": options.seed,
        "texts": {key: describe(corpus) for key, corpus in texts.items()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
            "numpy": np.__version__,
        },
    }
    (options.out / "FIGURES.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
