"""Principal component analysis, and its parts: centring, blocks of rows, the noise threshold."""

from eckart.linalg.pca.blocks import CentredBlock, centre, subtract_mean
from eckart.linalg.pca.estimator import Estimator, as_samples
from eckart.linalg.pca.pca import PCA
from eckart.linalg.pca.threshold import marchenko_pastur_median, noise_rank

__all__ = [
    "PCA",
    "CentredBlock",
    "Estimator",
    "as_samples",
    "centre",
    "marchenko_pastur_median",
    "noise_rank",
    "subtract_mean",
]
