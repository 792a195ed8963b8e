"""What Eckart sets out to reach. Ratios are the rival's figure over ours: above 1 is ours."""

from __future__ import annotations

# In one process, n x n float32.
RANK_OVER_FULL = {"1/i": 50.0, "i^-0.5": 50.0}  # svd(A, rank=32) against a full SVD
RANK_EXCESS = 0.5  # per cent of residual above the best possible, as `svd` documents
ENERGY_OVER_FULL = {  # svd(A, energy=0.9) with its factors, against a full SVD
    "1/i": 30.0,
    "i^-0.3": 1 / 0.9,
}
NEVER_SLOWER = 1.0  # the same on every other spectrum of the table
VALUES_OVER_FULL = 1 / 0.45  # spectrum(A), which answers any energy exactly, against a full SVD

# Adapters.
RESIZE_OVER_DENSE = 500.0  # a rank-128 module, 5120 x 5120: the SVD of the formed product over ours
RESIZE_FLOOR = 4.0  # a rank-64 adapter of a 7B model: seconds over those of its bytes and its QRs
RESIZE_MODULES = 16.0  # its memory, in modules: two workers, two groups ahead, and the work of each
COMBINE_OVER_PEFT = 50.0  # four adapters: PEFT's add_weighted_adapter("svd") over ours

# Recommender.
RECOMMEND_OVER_SURPRISE = 1.0  # 100,000 ratings, 20 factors: seconds of its SVD, 20 epochs, over ours

# Whole processes.
EXTRACT = {4096: 40.0, 1024: 8.0}  # by hidden size: seconds of the rival's over ours
PEAK_TENSORS, PEAK_BYTES = 6, 300e6  # peak memory: so many times the largest tensor in float32, and this
RESIDUAL = 1 / 1.005  # residual of the rival's over ours: ours at most 0.5 % larger
STORE_SECONDS = 1.0  # a second extract, from a store that is there
DEPTH_GROWTH = 1.2  # peak memory at 8 layers over that at 1: the adapter is held until it is written

# Derivatives, one thread: the rival's seconds over ours.
AUTODIFF_SMALL = 2.0  # autograd, per small operation, forward and reverse
AUTODIFF_NETWORK = AUTODIFF_TRANSFORMER = 1.5  # autograd
AUTODIFF_JACOBIAN = 10.0  # autograd
AUTODIFF_BY_HAND = 1.5  # our seconds over those of a backward pass written by hand
AUTODIFF_CHECKPOINT = 8.0  # peak memory of a chain of 400 steps over that of 20 checkpointed pieces
