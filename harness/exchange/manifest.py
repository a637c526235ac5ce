"""`predictions.yaml`: what a folder of predictions says of itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from ..api import DataError
from ..safe_files import write_whole
from ..specs import suggest
from ..yaml_files import explain_yaml, read_yaml

MANIFEST = "predictions.yaml"

Seen = Literal["normal", "labels", "anomalous", "test", "text"]
SEEN: dict[Seen, str] = {
    "normal": "normal images",
    "labels": "labels of images",
    "anomalous": "anomalous images",
    "test": "the test set",
    "text": "text",
}
"""What a method can have learned from, and how tables call it."""

NOTHING = "nothing"
"""How the command line and tables call it where a method has learned from nothing."""

SEEN_EXPLAINED = (
    "Known are normal (normal images), labels (of whole images: which is normal, or what it shows), anomalous (images "
    "with a lesion), test (images of the test set) and text (words, such as the prompts of a CLIP-based method); `[]`, "
    "or --seen nothing, is for a method that has learned from nothing"
)

Direction = Literal["anomalous", "normal"]

_ALLOWED = {
    "method": "a text of at most 200 characters",
    "seed": "a whole number from 0 on, below 2147483648",
    "seen": f"one or several of {', '.join(SEEN)}, as in `seen: [normal]`, or `[]` for nothing",
    "higher_is": "anomalous or normal",
    "geometry": "image or frame",
    "interpolation": "bilinear or nearest",
    "image_score": "max, mean or none",
    "size": "a whole number from 1 on",
    "predict_ms": "a number of milliseconds from 0 on",
    "peak_memory_mib": "a number of MiB from 0 on",
}
"""What an entry may be; the others are texts."""


class Manifest(BaseModel):
    """The facts about predictions that were made elsewhere.

    Attributes:
        method: The method's name in the tables.
        version: The method's version.
        url: Where it can be found.
        licence: The licence of the predictions.
        seed: The seed that it was run with.
        seen: What it has learned from, or was chosen on; empty for nothing, and `None` where that is not said.
        higher_is: Whether a higher value of a map, and a higher image score, means `anomalous` or `normal`.
        maps: Where anomaly maps are, as a path with `{split}` and `{case}`; its ending may be left out.
        masks: The same for masks.
        scores: A table (CSV) of image scores, with the columns `case`, `score`, and `split` where a name stands in two.
        files: A table (CSV) with the columns `split`, `case`, `map` and `mask`, where names of files do not follow a
            pattern.
        geometry: `image`, where maps and masks cover the image as its file has it; `frame`, where they cover the square
            that it was padded to. By default what fits the sizes of all, where only one does.
        interpolation: How maps of another size are resized: `bilinear` or `nearest`. Masks are never mixed.
        image_score: Where no table of image scores is given, how an image's score follows from its map: `max`, `mean`,
            or `none` for no image scores.
        size: Width and height of the frame that maps and masks were exported in.
        dataset: The name of the dataset.
        dataset_fingerprint: The hash of the images; where it is given, an import on others is refused.
        predict_ms: Milliseconds for an image, as the method's author says.
        peak_memory_mib: The most memory in MiB, as the method's author says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    _overruled: tuple[str, ...] = PrivateAttr(())

    method: str = Field(default="", max_length=200)
    version: Annotated[str, BeforeValidator(str)] = ""
    url: str = ""
    licence: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    seen: Annotated[tuple[Seen, ...] | None, BeforeValidator(lambda seen: _as_list(seen))] = None
    higher_is: Direction | None = None
    maps: str = "maps/{split}/{case}"
    masks: str = "masks/{split}/{case}"
    scores: str = "scores.csv"
    files: str = "files.csv"
    geometry: Literal["image", "frame"] | None = None
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    image_score: Literal["max", "mean", "none"] = "none"
    size: int | None = Field(default=None, ge=1)
    dataset: str = ""
    dataset_fingerprint: str = ""
    predict_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    peak_memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @field_validator("maps", "masks")
    @classmethod
    def _names_the_case(cls, pattern: str) -> str:
        if "{case}" not in pattern:
            raise ValueError("the path needs {case}, such as maps/{split}/{case}_map.npy")
        return pattern

    @classmethod
    def read(cls, folder: Path, said: dict[str, Any]) -> Self:
        """Reads the manifest of a folder, where there is one.

        Args:
            folder: The folder of predictions.
            said: What the user says beside it; it wins.

        Raises:
            DataError: It is not YAML, or an entry is unknown or wrong; the text has a sentence for each of them.
        """
        path = folder / MANIFEST
        try:
            content = (read_yaml(path) or {}) if path.exists() else {}
            if not isinstance(content, dict):
                raise DataError(f"{path} is not a list of keys with values, such as `method: my_method`.")
            manifest = cls.model_validate(content | said)
        except ValidationError as error:
            raise DataError(f"{path}: {' '.join(map(_said, error.errors()))}") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{path} is not YAML: {explain_yaml(error)}.") from error
        manifest._overruled = tuple(
            f"{MANIFEST} says `{name}: {_shown(content[name])}`, and the option {_shown(value)}, which is used."
            for name, value in said.items()
            if name in content and _plain(content[name]) != _plain(value)
        )
        return manifest

    def write(self, folder: Path) -> None:
        """Writes what was set, and nothing that is only a default."""
        content = self.model_dump(mode="json", exclude_unset=True)
        write_whole(folder / MANIFEST, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @property
    def overruled(self) -> tuple[str, ...]:
        """What the file says otherwise than the user, a sentence each."""
        return self._overruled


def seen_told(seen: Sequence[Seen]) -> str:
    """What a method has seen, as tables say it."""
    return ", ".join(SEEN[one] for one in seen) or NOTHING


def _as_list(seen: Any) -> Any:
    if isinstance(seen, str):
        return [] if seen == NOTHING else [seen]
    return seen


def _plain(value: Any) -> list[str]:
    listed = _as_list(value)
    return [str(one) for one in (listed if isinstance(listed, list | tuple) else [listed])]


def _shown(value: Any) -> str:
    return ", ".join(_plain(value)) or NOTHING


def _said(problem: Mapping[str, Any]) -> str:
    """A sentence on a wrong entry, without the words of the library that found it."""
    name, value = str(problem["loc"][0]), problem["input"]
    if name not in Manifest.model_fields:
        return f"There is no entry {name!r}. {suggest(name, Manifest.model_fields)}"
    if problem["type"] == "value_error":
        return f"The entry {name} is {value!r}: {problem['msg'].removeprefix('Value error, ')}."
    return f"The entry {name} is {value!r}, but should be {_ALLOWED.get(name, 'a text, in quotes')}."
