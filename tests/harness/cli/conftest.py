from pathlib import Path

import pytest

from miasbench.harness.cli import main

from ...support.running import TINY_RUN


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the run `it`, to be copied and not changed."""
    root = tmp_path_factory.mktemp("measured")
    with pytest.raises(SystemExit) as end:
        main([*TINY_RUN, "--results", str(root), "--name", "it"])
    assert not end.value.code
    return root
