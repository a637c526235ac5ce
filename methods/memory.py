"""Is there enough memory? Said before it runs out, because the kernel ends a process without a word."""

import psutil
import torch

from ..harness.api import UsageError

# Memory that other parts of the program and of the machine may still ask for.
_SHARE = 0.9


def require_memory(needed: float, device: str, what: str, remedy: str) -> None:
    """Refuses work that would not fit.

    Args:
        needed: Bytes, as estimated.
        device: A torch device, whose memory is meant.
        what: The part that needs them, as the message names it.
        remedy: The option that makes it fit.

    Raises:
        UsageError: There is not so much memory.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available
    if needed > _SHARE * free:
        raise UsageError(
            f"{what} would take about {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free on {device}. "
            f"{remedy}"
        )
