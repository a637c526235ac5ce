"""From the options of a run to its cells: what the command line, Python and the benchmarks have in common."""

from collections.abc import Mapping
from types import MappingProxyType

from ..api import Progress
from ..config import RunConfig
from . import cluster, local, runner
from .cells import CellProgress, Outcome
from .planning import Plan, make_plan

EXECUTORS: Mapping[str, runner.Executor] = MappingProxyType(
    {"local": local.local, "ray": cluster.cluster, "inline": runner.inline}
)


def plan_run(config: RunConfig, progress: Progress = lambda *_: None) -> Plan:
    """Makes the plan of a run, as `planning.make_plan`; processes for its cells start meanwhile."""
    if config.executor == "local":
        local.prepare([spec.name for spec in config.methods])
    return make_plan(config, progress)


def execute_plan(plan: Plan, *, force: bool = False, progress: CellProgress = lambda *_: None) -> list[Outcome]:
    """Runs the cells of a plan with the executor that its run asks for; as `runner.execute`."""
    return runner.execute(plan, force=force, progress=progress, executor=EXECUTORS[plan.config.executor])
