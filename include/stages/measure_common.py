"""What the measuring stages share: the feature artifact, and the hard rules before it."""

from __future__ import annotations

from collections.abc import Mapping

from include.contracts.features import FeatureRow, FeatureValue
from include.errors import BadInput, Usage
from include.features.catalogue import feature_names
from include.features.collect import MEASURED
from include.features.rules import broken, hard_rules, rules_digest
from include.keys import refused_material
from include.stages.context import Output, StageContext


def feature_output(
    ctx: StageContext,
    artifact: str,
    measured: str,
    values: Mapping[str, FeatureValue],
    who: str,
) -> Output:
    """The features of an asset as a stage's output, once they break no hard rule.

    Outputs: ``features`` (``FeatureRow`` as JSON). Facts: ``features``, its values. What is
    refused leaves its figures under ``refused_material``, with the rules in the fact ``refused``:
    nothing reads them but drift's reports.

    Args:
        ctx: the unit.
        artifact: the feature artifact that is made.
        measured: the artifact that was measured.
        values: by feature; those that a run's collection fills in may be left out.
        who: the asset as its owner calls it, for the message.

    Raises:
        BadInput: ``rule.<name>``: a hard rule is broken; the first of them decides the code, the
            message names all.
        Usage: ``plan.outdated``: the plan was made for other rules than this worker's.
    """
    kind = MEASURED[artifact]
    planned = ctx.owner(artifact).materials[artifact].params["rules"]
    if planned != rules_digest(kind):
        raise Usage(
            f"the plan was made for other hard rules for the {kind} than this worker has; plan the "
            "campaign again",
            code="plan.outdated",
        )
    row = FeatureRow(
        kind=kind,
        key=ctx.owner(measured).key(measured),
        values={name: values.get(name) for name in feature_names(kind)},
    )
    path = ctx.scratch / "features.json"
    path.write_text(row.model_dump_json(indent=2) + "\n", encoding="utf-8")
    made = Output({"features": (path, "application/json")}, {"features": dict(row.values)})
    failed = broken(hard_rules(kind), row.values)
    if failed:
        rules = {"refused": [found.rule for found in failed]}
        material = refused_material(ctx.owner(artifact).materials[artifact])
        ctx.cache.publish(material, made.files, {**made.facts, **rules})
        said = "; ".join(f"{found.rule}: {found.message}" for found in failed)
        raise BadInput(f"{who}: {said}", code=f"rule.{failed[0].rule}")
    return made
