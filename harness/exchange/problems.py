"""What is wrong with predictions from elsewhere: a line for each cause, however many cases it concerns."""


class Problems:
    """Sentences on what is wrong, of which the first of each cause is told, with the number of the others."""

    def __init__(self) -> None:
        self._found: dict[object, dict[str, None]] = {}

    def add(self, cause: object, sentence: str) -> None:
        """Adds a sentence.

        Args:
            cause: Equal for what one line can tell, such as a file and the kind of mistake in it.
            sentence: What is wrong, where, and what to do.
        """
        self._found.setdefault(cause, {})[sentence] = None

    def sentences(self) -> list[str]:
        """One for each cause, in the order in which they were found."""
        return [
            first + (f" The same is true of {len(others):,} other{'s' if others[1:] else ''}." if others else "")
            for first, *others in self._found.values()
        ]
