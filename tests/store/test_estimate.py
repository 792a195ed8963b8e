"""The dry run estimates sizes and counts from the headers alone, also for mixtures of experts."""

import json

import numpy as np

from eckart.checkpoint import write_safetensors
from eckart.store.estimate import estimate
from eckart.store.sources import PairSources

EXPERTS, ROWS, COLUMNS = 4, 24, 16
FUSED = "model.layers.0.mlp.experts.gate_up_proj"
LINEAR = "model.layers.0.self_attn.q_proj.weight"


def write_mixture(folder, seed):
    """Write a checkpoint with one linear layer and the experts of one layer as a single parameter."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_moe", "num_experts": EXPERTS}))
    tensors = {
        LINEAR: random.standard_normal((10, COLUMNS)).astype(np.float32),
        FUSED: random.standard_normal((EXPERTS, ROWS, COLUMNS)).astype(np.float32),
    }
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_a_dry_run_counts_every_expert_of_a_fused_parameter(tmp_path):
    sources = PairSources.open(write_mixture(tmp_path / "base", 0), write_mixture(tmp_path / "tuned", 1))
    result = estimate(sources)
    assert result.matrices == 1 + EXPERTS
    rank = 8
    numbers = rank * (10 + COLUMNS) + EXPERTS * rank * (ROWS + COLUMNS)
    assert result.adapter_bytes[str(rank)] == 4 * numbers
    # A matrix with fewer than 120 columns is multiplied with as many columns as it has.
    flops = 4.0 * (10 * COLUMNS * 10 + EXPERTS * ROWS * COLUMNS * COLUMNS)
    assert result.flops_leading == flops
