"""The targets of the benchmarks. A ratio above 1 means that Eckart is better than the rival."""

from __future__ import annotations

# Matrices: n x n float32, in one process.
RANK_OVER_FULL = {"1/i": 50.0, "i^-0.5": 50.0}  # a full SVD over svd(A, rank=32)
RANK_EXCESS = 0.5  # the residual above the best possible one, in percent, as `svd` documents
ENERGY_OVER_FULL = {  # a full SVD over svd(A, energy=0.9), which also returns factors
    "1/i": 30.0,
    "i^-0.3": 1 / 0.9,
}
NEVER_SLOWER = 1.0  # the same for every other spectrum of the table
VALUES_OVER_FULL = 1 / 0.45  # a full SVD over spectrum(A), which answers every question about energy exactly

# Adapters.
RESIZE_OVER_DENSE = 500.0  # a rank-128 module, 5120 x 5120: the SVD of the product B A over `resize`
RESIZE_FLOOR = 4.0  # a rank-64 adapter of a 7B model: seconds over the lower bound from its bytes and QRs
RESIZE_MODULES = 16.0  # its memory, in modules: two workers, two groups ahead, and the work space of each
COMBINE_OVER_PEFT = 50.0  # four adapters: PEFT's add_weighted_adapter("svd") over `combine`

# Recommender.
RECOMMEND_OVER_SURPRISE = 1.0  # 100,000 ratings, 20 factors: seconds of Surprise's SVD (20 epochs) over ours

# Checkpoints: whole processes.
EXTRACT = {4096: 40.0, 1024: 8.0}  # seconds of mergekit over ours, by hidden size
# The limit of the peak memory: this many times the largest tensor in float32, plus this many bytes.
PEAK_TENSORS, PEAK_BYTES = 6, 300e6
RESIDUAL = 1 / 1.005  # mergekit's residual over ours: ours may be at most 0.5 % larger
STORE_SECONDS = 1.0  # an extraction from an existing store
DEPTH_GROWTH = 1.2  # peak memory with 8 layers over that with 1: the adapter is in memory until it is written

# Derivatives, on one thread: seconds of the rival over ours.
AUTODIFF_SMALL = 2.0  # autograd, per small operation, forward and reverse
AUTODIFF_NETWORK = AUTODIFF_TRANSFORMER = 1.5  # autograd
AUTODIFF_JACOBIAN = 10.0  # autograd
AUTODIFF_BY_HAND = 1.5  # our seconds over those of a backward pass written by hand
AUTODIFF_CHECKPOINT = 8.0  # peak memory of a chain of 400 steps, without checkpoints over with 20 of them
