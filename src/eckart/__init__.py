"""Eckart finds the rank of a weight update and turns it into an adapter you can prove is right."""

from eckart.linalg import LowRank as LowRank
from eckart.linalg import Spectrum as Spectrum
from eckart.linalg import spectrum as spectrum
from eckart.linalg import svd as svd
