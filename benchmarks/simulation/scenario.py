"""What a simulated day is made of: a file, checked field by field."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.errors import Usage

DATA = Path(__file__).parent / "data"
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
HOURS = 24


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=_Strict)


class Arrivals(_Strict):
    """When renders are ordered."""

    renders: int = Field(gt=0, description="in the day")
    hours: tuple[float, ...] = Field(description="relative rate in each of the day's 24 hours")
    shard_rows: int = Field(gt=0, description="most rows that are rendered by one task")
    shard_wait_s: float = Field(ge=0, description="how long a row waits for others at most")

    @model_validator(mode="after")
    def _whole_day(self) -> Self:
        if len(self.hours) != HOURS or min(self.hours) < 0 or not sum(self.hours):
            raise ValueError("hours: 24 numbers from 0 on, not all of them 0")
        return self


class PoolPlan(_Strict):
    """Servers of one kind; a server is what one stage process takes: a core, or a GPU."""

    servers: int = Field(gt=0, description="the most there are")
    warm: int = Field(ge=0, description="always on")
    cold_s: float = Field(ge=0, description="from ordering one to its first task")
    idle_s: float = Field(gt=0, description="an idle one is given back after this")
    spot_share: Share = 0.0
    preempt_per_hour: float = Field(default=0.0, ge=0, description="of a busy spot server")
    checkpoint_s: float = Field(default=0.0, ge=0, description="0: work begins anew")
    price: Literal["core", "gpu"] = Field(description="row of the price table")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warm > self.servers:
            raise ValueError("warm: more than there are servers")
        return self


class Gpu(_Strict):
    """GPU stages. Their times are an assumption unless a file of measured ones is named."""

    stages: tuple[str, ...] = ()
    speedup: Positive = Field(description="a core's seconds for a GPU's second, of a row")
    start_s: float = Field(ge=0, description="a process's own: device, weights")
    times: Path | None = Field(default=None, description="as bench stages writes it, on the GPU")


class StoreLimits(_Strict):
    """The object store, shared by everything."""

    mib_per_s: Positive
    requests_per_s: Positive
    row_requests: float = Field(ge=0, description="of each stage for a row")


class Scheduler(_Strict):
    """Airflow's share, as `bench fanout` measures it, and that of a process of any stage."""

    cpu_s_per_task: float = Field(ge=0, description="of the scheduler process, for a task")
    schedulers: int = Field(default=1, gt=0)
    hand_over_s: float = Field(ge=0, description="from ready to running when nothing waits")
    process_s: float = Field(ge=0, description="interpreter and imports before a stage's clock")
    tasks_beside: int = Field(ge=0, description="tasks of a run that are no row stage")


class FaultPlan(_Strict):
    """Tries that fail for no reason of the input's."""

    probability: Share = 0.0
    retries: int = Field(default=4, ge=0)


class Scenario(_Strict):
    """One day."""

    name: str
    about: str
    arrivals: Arrivals
    pools: dict[str, PoolPlan]
    gpu: Gpu | None = None
    store: StoreLimits
    scheduler: Scheduler
    faults: FaultPlan = FaultPlan()
    assumptions: tuple[str, ...] = Field(description="what was not measured; printed with results")


class Prices(_Strict):
    """What things cost. Assumptions: nobody's list."""

    dated: date
    currency: str
    note: str
    core_hour: float = Field(ge=0)
    core_hour_spot: float = Field(ge=0)
    gpu_hour: float = Field(ge=0)
    gpu_hour_spot: float = Field(ge=0)
    control_hour: float = Field(ge=0, description="scheduler, API servers and database together")
    thousand_requests: float = Field(ge=0)
    delivered_gib: float = Field(ge=0)
    delivered_mib_per_render: float = Field(ge=0)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        Usage: it is not one; the message names the fields.
    """
    return _load(path, Scenario)


def load_prices(path: Path) -> Prices:
    """Read a price table.

    Raises:
        Usage: it is not one; the message names the fields.
    """
    return _load(path, Prices)


def _load(path: Path, kind: type[T]) -> T:
    try:
        body: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return kind.model_validate(body)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise Usage(f"{path}: {error}") from error
