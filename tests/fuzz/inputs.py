"""Small valid inputs of every kind, from which the cases start."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

import eckart
from eckart.adapter.formats import save_adapter
from eckart.applications.images import compress
from eckart.applications.images.samples import sample
from eckart.applications.ratings import Ratings
from eckart.applications.recommender import fit
from eckart.parallel import Progress
from support.adapter_files import write_peft
from support.adapters import adapter, module

PREFIX = "base_model.model."
Q, K, HEAD = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "lm_head"
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (12, 8),
    f"{Q}.weight": (10, 8),
    f"{Q}.bias": (10,),
    f"{K}.weight": (6, 8),
    "model.norm.weight": (8,),
    f"{HEAD}.weight": (12, 8),
}
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}
PIPELINE = adapter(
    module("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", rank=1, scale=4.0),
    module("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k", rank=4, scale=0.125),
    module("text_encoder.text_model.encoder.layers.0.mlp.fc1", rank=3, scale=2.0),
    components=("unet", "text_encoder"),
)
PICTURES_READ = (
    "p.png",
    "p.jpg",
    "p.webp",
    "p.tiff",
    "p.gif",
    "p.bmp",
    "p.ppm",
    "p.tga",
    "p.jp2",
    "p.avif",
    "p.qoi",
)
PICTURES_REFUSED = ("p.eps", "p.spider", "p.dds", "p.pcx", "p.sgi", "p.ico", "p.msp", "p.xbm")
MODES = {"p.spider": "F", "p.msp": "1", "p.xbm": "1", "p.gif": "P"}


def random_array(name: str, *shape: int) -> np.ndarray:
    """Return standard normal numbers in float32, the same ones for the same name and shape."""
    return np.random.default_rng([*name.encode(), *shape]).standard_normal(shape).astype(np.float32)


def weights(shapes: dict[str, tuple[int, ...]] = SHAPES, update: bool = False) -> dict[str, np.ndarray]:
    """Return the tensors of a base, or those of its fine-tune."""
    arrays = {name: random_array(name, *shape) for name, shape in shapes.items()}
    if update:
        arrays = {
            name: array + 0.1 * random_array(f"{name} tuned", *array.shape) for name, array in arrays.items()
        }
    return arrays


def adapter_tensors(names: tuple[str, ...] = (Q, K), rank: int = 2) -> dict[str, np.ndarray]:
    """Return lora_A and lora_B of modules of the base."""
    arrays = {}
    for name in names:
        m, n = SHAPES[f"{name}.weight"]
        arrays[f"{name}.lora_A.weight"] = random_array(f"{name} A", rank, n)
        arrays[f"{name}.lora_B.weight"] = random_array(f"{name} B", m, rank)
    return arrays


def write_model(folder: Path, arrays: dict[str, np.ndarray], config: dict[str, object] = CONFIG) -> Path:
    """Write a model folder of one file."""
    folder.mkdir(parents=True)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_shards(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write a model folder of two files and an index."""
    folder.mkdir(parents=True)
    names = sorted(arrays)
    shards = {
        f"model-{i + 1:05}-of-00002.safetensors": names[i * len(names) // 2 : (i + 1) * len(names) // 2]
        for i in range(2)
    }
    for file, held in shards.items():
        save_file({name: arrays[name] for name in held}, folder / file, {"format": "pt"})
    place = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def _write_pair(folder: Path, base: dict[str, np.ndarray], tuned: dict[str, np.ndarray]) -> None:
    write_model(folder / "base", base)
    write_model(folder / "tuned", tuned)
    eckart.extract(folder / "base", folder / "tuned", folder / "adapter", rank=2, base_name="base")


def pair_of_files(folder: Path) -> None:
    """Write two files in float32 that have no configuration."""
    place = folder / "in"
    place.mkdir(parents=True)
    base, tuned = place / "base.safetensors", place / "tuned.safetensors"
    save_file(weights(), base)
    save_file(weights(update=True), tuned)
    eckart.extract(base, tuned, place / "adapter", rank=2, base_name="base")


def pair_of_folders(folder: Path) -> None:
    """Write two models in bfloat16, each a folder."""
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in weights().items()}
    tuned = {name: array.astype(ml_dtypes.bfloat16) for name, array in weights(update=True).items()}
    _write_pair(folder / "in", half, tuned)


def pair_of_shards(folder: Path) -> None:
    """Write two models, each in two files with an index."""
    write_shards(folder / "in" / "base", weights())
    write_shards(folder / "in" / "tuned", weights(update=True))
    sides = folder / "in" / "base", folder / "in" / "tuned"
    eckart.extract(*sides, folder / "in" / "adapter", rank=2, base_name="base")


def pair_with_experts(folder: Path) -> None:
    """Write two mixtures with fused experts."""
    experts = "model.layers.0.mlp.experts"
    shapes = SHAPES | {f"{experts}.gate_up_proj": (3, 8, 12), f"{experts}.down_proj": (3, 6, 8)}
    _write_pair(folder / "in", weights(shapes), weights(shapes, update=True))


def pair_with_scales(folder: Path) -> None:
    """Write a base in float8 with one scale for each tensor, and a tuned model in float16."""
    base: dict[str, np.ndarray] = {}
    for name, array in weights().items():
        if array.ndim == 2 and "proj" in name:
            base[name] = array.astype(ml_dtypes.float8_e4m3fn)
            base[f"{name}_scale_inv"] = np.ones((1, 1), np.float32)
        else:
            base[name] = array
    tuned = {name: array.astype(np.float16) for name, array in weights(update=True).items()}
    plain = {name: array.astype(np.float32) for name, array in weights().items()}
    write_model(folder / "plain", plain)
    write_model(folder / "in" / "tuned", tuned)
    eckart.extract(
        folder / "plain", folder / "in" / "tuned", folder / "in" / "adapter", rank=2, base_name="base"
    )
    shutil.rmtree(folder / "plain")
    write_model(folder / "in" / "base", base)


def _write_adapter(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> None:
    write_peft(folder / "in" / "adapter", tensors, r=2, lora_alpha=2, **config)  # type: ignore[arg-type]
    write_model(folder / "in" / "model", weights())


def peft_folder(folder: Path) -> None:
    """Write an adapter with every kind of setting that changes its scales."""
    tensors = adapter_tensors((Q,)) | adapter_tensors((K,), rank=3) | adapter_tensors((HEAD,), rank=1)
    _write_adapter(
        folder,
        tensors,
        target_modules=["q_proj", "k_proj", "lm_head"],
        rank_pattern={r".*\.k_proj": 3, "lm_head": 1},
        alpha_pattern={"^.*q_proj": 3.5},
        use_rslora=True,
        base_model_name_or_path="org/base",
        task_type="CAUSAL_LM",
        layers_to_transform=[0, 1],
        layers_pattern="layers",
        bias="none",
        fan_in_fan_out=False,
    )


def stated_folder(folder: Path) -> None:
    """Write an adapter with its own statement, and the pair it was made from."""
    _write_pair(folder / "in", weights(), weights(update=True))
    shutil.copytree(folder / "in" / "base", folder / "in" / "model")


def peft_with_whole_tensors(folder: Path) -> None:
    """Write an adapter that also replaces tensors as a whole and trains some tokens."""
    whole = {
        "lm_head.weight": random_array("h", 12, 8),
        "model.norm.weight": random_array("n", 8),
        "model.embed_tokens.token_adapter.trainable_tokens_delta": random_array("t", 2, 8),
        f"{Q}.lora_B.bias": random_array("b", 10),
    }
    _write_adapter(
        folder,
        adapter_tensors() | whole,
        target_modules=["q_proj", "k_proj"],
        modules_to_save=["lm_head", "norm"],
        trainable_token_indices={"embed_tokens": [3, 5]},
        lora_bias=True,
    )


def dora_folder(folder: Path) -> None:
    """Write an adapter with magnitude vectors."""
    magnitudes = {
        f"{Q}.lora_magnitude_vector": random_array("m", 10),
        f"{K}.lora_magnitude_vector": random_array("m", 6),
    }
    _write_adapter(folder, adapter_tensors() | magnitudes, use_dora=True, target_modules="all-linear")


def pipeline_folder(folder: Path) -> None:
    """Write one adapter folder for each of two components."""
    save_adapter(PIPELINE, folder / "in" / "adapter", "peft")
    _write_unet(folder)


def kohya_file(folder: Path) -> None:
    """Write a file in kohya's format, with the metadata of its trainer."""
    save_adapter(PIPELINE, folder / "in" / "k.safetensors", "kohya")
    _write_unet(folder)


def stated_file(folder: Path) -> None:
    """Write a file in kohya's format that holds a statement."""
    save_adapter(PIPELINE, folder / "whole.safetensors", "kohya")
    (folder / "in").mkdir()
    eckart.resize(folder / "whole.safetensors", folder / "in" / "k.safetensors", rank=1)
    (folder / "whole.safetensors").unlink()
    _write_unet(folder)


def many_adapters(folder: Path) -> None:
    """Write a folder of adapters in two formats."""
    save_adapter(PIPELINE, folder / "in" / "all" / "a.safetensors", "kohya")
    save_adapter(PIPELINE, folder / "in" / "all" / "b.safetensors", "diffusers")
    write_peft(folder / "in" / "all" / "c", adapter_tensors(), r=2, lora_alpha=2)


def diffusers_file(folder: Path) -> None:
    """Write a file in the format of diffusers, with its configuration in the metadata."""
    save_adapter(PIPELINE, folder / "in" / "d.safetensors", "diffusers")
    _write_unet(folder)


def cloneofsimo_file(folder: Path) -> None:
    """Write a file of numbered layers and a word vector."""
    tensors = {"<s1>": random_array("word", 8)}
    for number in range(3):
        tensors[f"unet:{number}:down"] = random_array(f"down {number}", 2, 5)
        tensors[f"unet:{number}:up"] = random_array(f"up {number}", 6, 2)
    metadata = {"unet": '["CrossAttention"]', "unet:1:rank": "2", "<s1>": "<embed>"}
    _write_unet(folder)
    save_file(tensors, folder / "in" / "c.safetensors", metadata)


def _write_unet(folder: Path) -> None:
    shapes = {f"{name}.weight": (6, 5) for name in PIPELINE.modules}
    write_model(
        folder / "in" / "model", {name: random_array(name, *shape) for name, shape in shapes.items()}, {}
    )


def store(folder: Path) -> None:
    """Write a pair, its store, the store of an interrupted pass, and a plan."""
    pair = folder / "in" / "base.safetensors", folder / "in" / "tuned.safetensors"
    pair[0].parent.mkdir(parents=True)
    save_file(weights(), pair[0])
    save_file(weights(update=True), pair[1])
    full, half = folder / "work" / "store", folder / "work" / "half"
    eckart.factor(*pair, full, max_rank=4)
    plan = eckart.plan(full, rank=2)
    (folder / "in" / "plan.json").write_text(json.dumps(plan.to_json()))

    def stop(step: Progress) -> None:
        if step.done == 2:
            raise RuntimeError("the pass ends here")

    with contextlib.suppress(RuntimeError):
        eckart.factor(*pair, half, max_rank=4, workers=1, progress=stop)


def ratings(folder: Path) -> None:
    """Write the same ratings in the four formats that are read."""
    (folder / "in").mkdir(parents=True)
    rows = [(u, i, 1 + (u * i + u) % 5) for u in range(1, 9) for i in range(1, 8) if (u + 2 * i) % 3]
    lines = {
        "u.data": [f"{u}\t{i}\t{value}\t88125" for u, i, value in rows],
        "ratings.dat": [f"{u}::{i}::{value}::97830" for u, i, value in rows],
        "ratings.csv": [
            "userId,movieId,rating,timestamp",
            *(f'{u},"{i}",{value}.0,12' for u, i, value in rows),
        ],
        "semicolons.csv": ["User;ISBN;Book-Rating", *(f"{u};{i};{value}" for u, i, value in rows)],
    }
    for name, content in lines.items():
        (folder / "in" / name).write_text("\n".join(content) + "\n")


def recommender(folder: Path) -> None:
    """Write a fitted recommender."""
    (folder / "in").mkdir(parents=True)
    rows = [(f"u{u}", f"i{i}", 1 + (u * i + u) % 5) for u in range(9) for i in range(8) if (u + 2 * i) % 3]
    users, items, values = zip(*rows, strict=True)
    fit(Ratings.of(users, items, values), "als", 2).save(folder / "in" / "model.safetensors")


def compressed(folder: Path) -> None:
    """Write a colour picture as blocks and a grey one as factors."""
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "p.eki").write_bytes(compress(sample("still", 24), rank=3).bytes)
    (folder / "in" / "g.eki").write_bytes(compress(sample("hills", 32)[..., 1], psnr=30).bytes)


def pictures(folder: Path) -> None:
    """Write a picture in every format that is read, and in some that are not."""
    from PIL import Image

    place = folder / "in"
    place.mkdir(parents=True)
    picture = Image.fromarray(sample("still", 24))
    for name in (*PICTURES_READ, *PICTURES_REFUSED):
        mode = MODES.get(name, "RGB")
        format = "SPIDER" if name.endswith("spider") else None
        picture.convert(mode).save(place / name, format)


def matrices(folder: Path) -> None:
    """Write small matrices as arrays and as text."""
    (folder / "in").mkdir(parents=True)
    np.save(folder / "in" / "a.npy", np.array([[2.0, 1.0], [0.0, 3.0]]))
    np.save(folder / "in" / "b.npy", np.array([[1], [2]]))
    (folder / "in" / "a.csv").write_text("# rows\n2,1/2\n0,sqrt(2)\n")
    (folder / "in" / "a.tsv").write_text("2\t0.25\n0\t3\n")
    (folder / "in" / "a.txt").write_text("2 1\n0 3\n")
