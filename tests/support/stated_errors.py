"""The errors of an extracted adapter, by float64 sums over its files; and changes to its statement."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
from safetensors.torch import load_file


def read(folder):
    """Return every tensor of a checkpoint or an adapter in float64."""
    (file,) = folder.glob("*.safetensors")
    return {name: tensor.double().numpy() for name, tensor in load_file(file).items()}


def measured(base, tuned, adapter):
    """Return each module's relative error, and that of all together, by float64 sums over the files."""
    before, after, factors = read(base), read(tuned), read(adapter)
    errors, missed, whole = {}, 0.0, 0.0
    for key in factors:
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removesuffix(".lora_A.weight").removeprefix("base_model.model.")
        update = after[f"{name}.weight"] - before[f"{name}.weight"]
        product = factors[key.replace("lora_A", "lora_B")] @ factors[key]
        errors[name] = np.linalg.norm(update - product) / np.linalg.norm(update)
        missed += np.linalg.norm(update - product) ** 2
        whole += np.linalg.norm(update) ** 2
    return errors, float(np.sqrt(missed / whole))


def statement(adapter):
    return json.loads((adapter / "eckart.json").read_text())


def rewrite(adapter, change):
    stated = statement(adapter)
    change(stated)
    (adapter / "eckart.json").write_text(json.dumps(stated))
