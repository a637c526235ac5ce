"""MIAS-SAM (Colussi, Ahmetovic and Mascetti, BMVC 2025, arXiv 2505.22762): anomaly segmentation without a threshold.

Steps are numbered as the released code computes them: input (1), encoder (2), patch descriptors (3), memory bank (4),
patch score (5), anomaly map (6), normalisation (7), prompt (8), mask (9).
"""

from .control import SamControl
from .method import MiasSam
from .refine import SamRefine

__all__ = ["MiasSam", "SamControl", "SamRefine"]
