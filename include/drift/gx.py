"""Great Expectations' side: drift rules as expectation classes of ours, hard rules as core ones.

Importing this module imports Great Expectations (12 s of processor time): inside tasks only. It
works without a network; analytics are off.
"""

from __future__ import annotations

import os

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation
from great_expectations.expectations.metrics import (
    ColumnAggregateMetricProvider,
    column_aggregate_value,
)
from great_expectations.render.renderer.renderer import renderer

from include.drift.compare import alpha_per_test, column_of, feature_of, judge
from include.drift.records import Finding
from include.drift.rows import ABSENT, column
from include.expectations.suites import DriftRule, HardRule, Suite

DOCS_SITE = "docs"
METRIC = "column.understudy.finding"


@dataclass(frozen=True)
class _Comparison:
    """What the expectations of a running checkpoint compare with."""

    suite: Suite
    reference: pd.DataFrame


_RUNNING: dict[str, _Comparison] = {}
"""By the reference's digest, which is what an expectation's configuration holds: thousands of rows
do not belong into a configuration that every report repeats."""


@contextlib.contextmanager
def comparing_with(digest: str, suite: Suite, reference: pd.DataFrame) -> Iterator[None]:
    """Make a reference window known to the expectations that name its digest."""
    _RUNNING[digest] = _Comparison(suite, reference)
    try:
        yield
    finally:
        del _RUNNING[digest]


class FindingMetric(ColumnAggregateMetricProvider):  # type: ignore[misc]
    """How a column differs from the reference: a ``Finding`` as plain JSON types."""

    metric_name = METRIC
    value_keys = ("window",)
    filter_column_isnull = False

    @column_aggregate_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column: pd.Series, window: str = "", **kwargs: Any) -> dict[str, Any]:
        with_what = _RUNNING[window]
        rule = next(r for r in with_what.suite.drift if r.feature == column.name)
        feature = feature_of(with_what.suite, rule.feature)
        found = judge(
            rule,
            feature,
            alpha_per_test(rule, with_what.suite),
            column_of(feature, with_what.reference[rule.feature].to_numpy()),
            column_of(feature, column.to_numpy()),
            absent=rule.feature in with_what.reference.attrs.get(ABSENT, ()),
        )
        return found.model_dump(mode="json")


class _FollowsReference(ColumnAggregateExpectation):  # type: ignore[misc]
    """What both kinds of drift rule share."""

    window: str
    """Digest of the reference's rows."""
    threshold: float
    alpha: float

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)
    success_keys: ClassVar[tuple[str, ...]] = ("window", "threshold", "alpha")
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id", "table", "column", "row_condition")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        found = metrics[METRIC]
        return {
            "success": found["state"] != "drifted",
            "result": {"observed_value": found["said"], "details": {"finding": found}},
        }

    @classmethod
    @renderer(renderer_type="renderer.diagnostic.observed_value")  # type: ignore[untyped-decorator]
    def _diagnostic_observed_value_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None
    ) -> str:
        if result is None or "details" not in result.result:
            return "--"
        found = result.result["details"]["finding"]
        figures = [found["said"]]
        if found["p"] is not None:
            figures.append(f"p = {found['p']:.2g} (alarm below {found['alpha']:.2g})")
        if found["psi"] is not None:
            figures.append(f"population stability index {found['psi']:.2f}")
        return "; ".join(figures)


class ExpectColumnValuesToFollowReference(_FollowsReference):
    """A number's values are distributed as in the reference window.

    Fails when the Kolmogorov-Smirnov test rejects and the Wasserstein distance is above
    ``threshold`` standard deviations of the reference; see ``include.drift.compare``.
    """


class ExpectColumnCategoriesToFollowReference(_FollowsReference):
    """A category's values are as frequent as in the reference window.

    Fails when the chi-square test rejects and the distributions are further apart than
    ``threshold`` in total variation; see ``include.drift.compare``.
    """


def hard_expectation(rule: HardRule) -> Any:
    """A hard rule as an expectation of Great Expectations' own."""
    said: dict[str, Any] = {
        "column": rule.feature,
        "description": f"{rule.rule}: {rule.feature} is {rule.limits}; otherwise {rule.message}",
        "meta": {"rule": rule.rule},
    }
    if rule.not_null:
        return gxe.ExpectColumnValuesToNotBeNull(**said)
    if rule.in_set is not None:
        return gxe.ExpectColumnValuesToBeInSet(value_set=list(rule.in_set), **said)
    return gxe.ExpectColumnValuesToBeBetween(min_value=rule.min, max_value=rule.max, **said)


def drift_expectation(rule: DriftRule, suite: Suite, window: str) -> Any:
    """A drift rule as an expectation of ours."""
    number = rule.test == "ks_wasserstein"
    form = (
        ExpectColumnValuesToFollowReference if number else ExpectColumnCategoriesToFollowReference
    )
    how = "standard deviations apart" if number else "of the rows elsewhere"
    alpha = alpha_per_test(rule, suite)
    return form(
        column=rule.feature,
        window=window,
        threshold=rule.threshold,
        alpha=alpha,
        description=f"{rule.feature} is as in the reference: not both p below {alpha:.2g} and more "
        f"than {rule.threshold:g} {how}",
    )


class Validator:
    """One Great Expectations context for a validation run, with its own report in a folder."""

    def __init__(self, docs: Path) -> None:
        logging.getLogger("great_expectations").setLevel(logging.WARNING)
        self._context: Any = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        # It would build a second report, in a temporary folder of its own.
        self._context.delete_data_docs_site("local_site")
        self._context.add_data_docs_site(
            DOCS_SITE,
            {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(docs),
                },
            },
        )
        self._source = self._context.data_sources.add_pandas("features")

    def run(
        self, rows: pd.DataFrame, suite: Suite, window: str | None, reference: pd.DataFrame | None
    ) -> dict[str, Any]:
        """Run a checkpoint over rows of one kind.

        Args:
            rows: from ``include.drift.rows.read_rows``, at least one.
            suite: the kind's expectations.
            window: digest of the reference, None for hard rules only.
            reference: its rows.

        Returns:
            Great Expectations' validation result as plain JSON types.
        """
        batch = self._source.add_dataframe_asset(suite.kind).add_batch_definition_whole_dataframe(
            "all"
        )
        rules = [hard_expectation(hard) for hard in suite.hard]
        for drift in suite.drift if window else ():
            rules.append(drift_expectation(drift, suite, str(window)))
        # At once: a suite that is known to the context is stored again with each that is added.
        made = gx.ExpectationSuite(name=suite.kind, expectations=rules)
        expectations = self._context.suites.add(made)
        checkpoint = self._context.checkpoints.add(
            gx.Checkpoint(
                name=suite.kind,
                validation_definitions=[
                    self._context.validation_definitions.add(
                        gx.ValidationDefinition(name=suite.kind, data=batch, suite=expectations)
                    )
                ],
                actions=[UpdateDataDocsAction(name="docs", site_names=[DOCS_SITE])],
                result_format={
                    "result_format": "SUMMARY",
                    "unexpected_index_column_names": ["asset"],
                    "partial_unexpected_count": 8,
                },
            )
        )
        with contextlib.ExitStack() as stack:
            if window is not None and reference is not None:
                stack.enter_context(comparing_with(window, suite, reference))
            result = checkpoint.run(batch_parameters={"dataframe": rows})
        (only,) = result.run_results.values()
        return dict(only.to_json_dict())


def findings_of(result: dict[str, Any]) -> tuple[Finding, ...]:
    """What the drift expectations of a validation result found."""
    details = (one["result"].get("details") or {} for one in result["results"])
    return tuple(Finding.model_validate(d["finding"]) for d in details if "finding" in d)


def column_values(rows: pd.DataFrame, suite: Suite, name: str) -> Any:
    """A feature's values in rows, by name."""
    return column(rows, feature_of(suite, name))
