"""Image compression by the SVD: a codec with its own file format, and the truncated SVD for comparison."""

from eckart.applications.images.codec import CompressedImage, compress, decompress
from eckart.applications.images.compare import FormatResult, compare
from eckart.applications.images.pictures import read_picture, write_picture
from eckart.applications.images.quality import psnr, ssim
from eckart.applications.images.ranks import RankImage, rank_images

__all__ = [
    "CompressedImage",
    "FormatResult",
    "RankImage",
    "compare",
    "compress",
    "decompress",
    "psnr",
    "rank_images",
    "read_picture",
    "ssim",
    "write_picture",
]
