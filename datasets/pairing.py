"""Why images and masks do not pair, in as few sentences as there are causes."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

_WORDS = re.compile(r"(?i)images?|img|masks?|labels?|segmentations?|seg")
_NUMBER = r"[_\-. ]?\d+"
_MASK_END = re.compile(r"(?i)[_\-. ](masks?|seg|segmentation|labels?|gt|annotation)(" + _NUMBER + ")?$")


def pairing_problems(
    images: Mapping[str, Path], masks: Mapping[str, Path], place: Path, mask_place: Path, suffix: str = ""
) -> Iterator[str]:
    """Says which images have no mask of their name, and which masks no image.

    Args:
        images: By name without ending.
        masks: Likewise, without their suffix.
        place: Where the images are.
        mask_place: Where the masks are.
        suffix: What the names of masks have behind those of their images.

    Yields:
        One sentence where names differ by something that all have, such as `_mask`; otherwise one for each file.
    """
    lone_images = [name for name in images if name not in masks]
    lone_masks = [name for name in masks if name not in images]
    partners = {name: partner for name in lone_masks if (partner := _partner(name, images))}
    if lone_images and 2 * len(partners) >= len(lone_masks) > 0:
        of_image: dict[str, list[str]] = {}
        for name, partner in partners.items():
            of_image.setdefault(partner, []).append(name)
        crowded = next((names for names in of_image.values() if len(names) > 1), None)
        end = common_suffix(of_image.keys(), partners) if crowded and not suffix else ""
        name, partner = next(iter(partners.items()))
        yield (
            f"{len(partners):,} masks at {mask_place} are named otherwise than their images, such as "
            f"{masks[name].name} for {images[partner].name}. A mask must have the name of its image: "
            + (
                f"say on a card (.yaml) how masks end, `mask_suffix: '{end}'`, and those of one image, such as "
                f"{masks[crowded[0]].name} and {masks[crowded[1]].name}, are united."
                if crowded and end
                else (
                    f"unite those of one image, such as {masks[crowded[0]].name} and {masks[crowded[1]].name}, in one, "
                    "and "
                    if crowded
                    else ""
                )
                + _renaming(name, partner, masks[name].suffix, crowded is not None or bool(suffix))
            )
        )
        without = set(lone_images) - set(partners.values())
        lone_images = [name for name in lone_images if name in without]
        lone_masks = [name for name in lone_masks if name not in partners]
    behind = f" with {suffix} behind it" if suffix else ""
    yield from (f"The image {images[name]} has no mask of its name{behind} at {mask_place}." for name in lone_images)
    before = f" before {suffix}" if suffix else ""
    yield from (f"The mask {masks[name]} has no image of its name{before} at {place}." for name in lone_masks)


def image_of_mask(mask: str, suffix: str) -> str:
    """The name of the image whose mask has this name; empty where it is not the name of a mask.

    An image may have several masks, which are numbered behind a suffix that ends with a letter: `a_mask`, `a_mask_1`.

    Args:
        mask: The name of a file, without ending.
        suffix: What the names of masks have behind those of their images.
    """
    number = _NUMBER if suffix[-1:].isalpha() else ""
    found = re.fullmatch(f"(.+){re.escape(suffix)}(?:{number})?", mask, re.DOTALL)
    return found.group(1) if found else ""


def common_suffix(images: Set[str], masks: Iterable[str]) -> str:
    """What all masks have behind the names of their images; empty where there is no such text, or none is needed.

    Args:
        images: The names of images, without ending.
        masks: Those of masks, which may be among the images.
    """
    found: set[str] = set()
    for mask in masks:
        image = next((mask[:end] for end in range(len(mask) - 1, 0, -1) if mask[:end] in images), None)
        if image is None:
            return ""
        found.add(mask.removeprefix(image))
    if len(found) > 1:  # several masks of an image are numbered
        found = {re.sub(f"{_NUMBER}$", "", end) for end in found}
    return found.pop() if len(found) == 1 else ""


def masks_beside(names: Set[str]) -> dict[str, list[str]]:
    """The names of masks among those of images, sorted, by the name of their image."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if end := _mask_end(name, names):
            found.setdefault(name.removesuffix(end), []).append(name)
    return found


def is_mask_name(name: str, images: Set[str]) -> bool:
    """Whether a name is that of a mask of one of the images beside it, such as `a_mask` beside `a`."""
    return _mask_end(name, images) != ""


def _mask_end(name: str, images: Set[str]) -> str:
    """What a mask's name has behind that of one of the images; empty where it is not the name of a mask."""
    end = _MASK_END.search(name)
    return end.group() if end and name[: end.start()] in images else ""


def masks_among(images: Mapping[str, Path], suffix: str = "") -> Iterator[str]:
    """Says which files are masks of others beside them by their names, such as `a_mask.png` beside `a.png`.

    Args:
        images: The files that are taken for images, by name without ending.
        suffix: What the names of masks are known to have behind those of their images.
    """
    found = {
        name: end
        for name, path in images.items()
        if (end := _mask_end(name, images.keys())) and images[name.removesuffix(end)].parent == path.parent
    }
    if found:
        first, end = next(iter(found.items()))
        path, end = images[first], common_suffix(images.keys() - found.keys(), found) or end
        yield (
            f"{len(found):,} of the images at {path.parent} are masks by their names, such as {path.name}. "
            + (
                f"Masks end with {suffix}, as the card or the layout says: rename these, or move them elsewhere."
                if suffix
                else f"Move masks to where masks are, or say on a card (.yaml) how their names end: `mask_suffix: "
                f"'{end}'`."
            )
        )


def _partner(mask: str, images: Mapping[str, Path]) -> str:
    """The name of the image that a mask's name is made from, or nothing."""
    for end in range(len(mask) - 1, 0, -1):
        if mask[:end] in images and not (mask[end].isdigit() and mask[end - 1].isdigit()):
            return mask[:end]
    for begin in range(1, len(mask)):
        if mask[begin:] in images and not (mask[begin].isdigit() and mask[begin - 1].isdigit()):
            return mask[begin:]
    bare = _WORDS.sub("", mask)
    for name in images if bare else ():
        if name.startswith(mask) and not name[len(mask)].isalnum():
            return name
        if _WORDS.sub("", name) == bare:
            return name
    return ""


def _renaming(mask: str, image: str, ending: str, only_rename: bool) -> str:
    """What to do where masks are named otherwise: a key of the card, or a command that renames them."""
    if mask.startswith(image):
        rest = mask.removeprefix(image)
        key = "" if only_rename else f"say on a card (.yaml) how masks end, `mask_suffix: '{rest}'`, or "
        return (
            f'{key}rename them, such as with: for f in *{rest}{ending}; do mv "$f" "${{f%{rest}{ending}}}{ending}"; '
            "done"
        )
    if mask.endswith(image):
        rest = mask.removesuffix(image)
        return f'rename them, such as with: for f in {rest}*; do mv "$f" "${{f#{rest}}}"; done'
    if image.startswith(mask):
        rest = image.removeprefix(mask)
        return f'rename them, such as with: for f in *{ending}; do mv "$f" "${{f%{ending}}}{rest}{ending}"; done'
    return f"rename them, such as {mask}{ending} to {image}{ending}."
