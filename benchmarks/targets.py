"""What Eckart sets out to reach. Ratios are the rival's figure over ours: above 1 is ours."""

from __future__ import annotations

# In one process, n x n float32.
RANK_OVER_FULL = 20.0  # svd(A, rank=32) against a full SVD
RANK_OVER_RANDOMISED = 1.0  # and against a randomised one
RANK_EXCESS = 0.5  # per cent of residual above the best possible, as `svd` documents
ENERGY_OVER_FULL = 1.0  # svd(A, energy=0.9) is never slower than a full SVD, flat spectra included
VALUES_OVER_VALUES = 1.0  # spectrum(A) against other routines for the values alone

# Whole processes.
EXTRACT = 10.0  # seconds of the rival's over ours
PEAK = 1.0  # peak memory of the rival's over ours
RESIDUAL = 0.995  # residual of the rival's over ours: ours at most 0.5 % larger
STORE_SECONDS = 1.0  # a second extract, from a store that is there
DEPTH_GROWTH = 1.1  # peak memory at 8 layers over that at 1
OVER_FLOOR = 3.0  # our seconds over those of the reading and the products alone
