"""Methods without a run."""

from numbers import Integral
from typing import Any, Literal, get_args

from ..api import Method, UsageError
from ..config import RunConfig
from ..registry import build_method
from ..running.device import resolve_device, seed_everything


def make_method(
    spec: str,
    *,
    weights: Literal["published", "embedded"] = "published",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    **options: Any,
) -> Method:
    """Makes a method, which is fitted on normal images and then says of others where they are anomalous.

    Images are uint8 (S, S), all of one size, or RGB, (S, S, 3), if `method.colour`; `frame_image(image, size)` pads and
    resizes others.

    Args:
        spec: `name` or `name[option=value,…]`, as for a run; `bench list methods` shows the names.
        weights: The papers' weights, or small ones from Python packages.
        device: Where the method computes; `auto` is a GPU where there is one.
        seed: Seed of everything random. It also sets the global random state, as a run does before it fits a method.
        options: Options of the method; those in the spec win.

    Returns:
        The method, not yet fitted.

    Raises:
        UsageError: The name or an option is wrong, or the seed is no whole number from 0 to 2**32 - 1.

    Examples:
        >>> method = miasbench.make_method("mias_sam[gamma=3]", weights="embedded")
        >>> method.fit(normal_images)
        >>> method.predict(image).mask
    """
    if not isinstance(spec, str):
        raise UsageError(f"A method is given by its name, a text such as 'mias_sam[gamma=3]', and not by {spec!r}.")
    for name, value in (("weights", weights), ("device", device)):
        known = get_args(RunConfig.model_fields[name].annotation)
        if value not in known:
            raise UsageError(f"{name}={value!r}: it should be {', '.join(known[:-1])} or {known[-1]}.")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed!r}: it should be a whole number from 0 to {2**32 - 1}.")
    resolved = resolve_device(device)
    seed_everything(seed)
    return build_method(spec, options, weights=weights, device=resolved, seed=seed)
