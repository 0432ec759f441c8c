"""The small campaign that is broken: real people and codecs, a template of a few seconds.

Media are made once, by a worker's process (``include.chaos.media``). Each round
renders them for a tenant of its own, so that everything has to be made, while every key, and so
every digest, is what the undisturbed reference round made.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import yaml

from include.consent import row_scope
from include.contracts.manifest import Manifest
from include.contracts.plan import CampaignPlan, ShardPlan
from include.errors import UnderstudyError
from include.samples.consents import write_consent
from include.settings import PROJECT, Settings
from include.stages.specs import MAKER
from include.store import open_store
from include.store.cache import ArtifactCache

RECIPIENTS = 3
CAMPAIGN = "chaos"


def make_media(folder: Path, settings: Settings) -> None:
    """Make the media in a worker's process, unless they are there.

    Raises:
        UnderstudyError: it could not; the message has its last words.
    """
    if (folder / "brief.yaml").exists():
        return
    command = [str(settings.worker_python), "-m", "include.chaos.media", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise UnderstudyError(f"the campaign's media could not be made:\n{tail}")


def brief_for(folder: Path, tenant: str, settings: Settings, recipients: int = RECIPIENTS) -> Path:
    """Write the brief of one tenant, with consents that the tenant's key signed.

    Args:
        folder: where ``make_media`` left the media.
        tenant: whose campaign it is.
        recipients: how many of them, at most ``RECIPIENTS``.
        settings: says where the development consent keys are.

    Returns:
        The brief's path.
    """
    brief = yaml.safe_load((folder / "brief.yaml").read_text(encoding="utf-8"))
    with (folder / brief["recipients"]).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:recipients]
    own = folder / tenant
    own.mkdir(exist_ok=True)
    presenter = folder / brief["template"]["video"]
    write_consent(own / "presenter.json", tenant, {"template"}, presenter, None, settings)
    for row in rows:
        audio = folder / row["audio"] if row["audio"] else None
        row["consent"] = f"{tenant}/{row['id']}.json"
        scope = row_scope(speaks=True, recorded=bool(audio))
        write_consent(folder / row["consent"], tenant, scope, folder / row["face"], audio, settings)
    table = own / "recipients.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    brief["template"]["consent"] = f"{tenant}/presenter.json"
    brief |= {"tenant": tenant, "campaign": CAMPAIGN, "recipients": f"{tenant}/recipients.csv"}
    path = folder / f"{tenant}.yaml"
    path.write_text(yaml.safe_dump(brief, allow_unicode=True), encoding="utf-8")
    return path


def remove_brief(folder: Path, tenant: str) -> None:
    """Remove what ``brief_for`` wrote."""
    shutil.rmtree(folder / tenant, ignore_errors=True)
    (folder / f"{tenant}.yaml").unlink(missing_ok=True)


def units_of(plan: CampaignPlan) -> list[ShardPlan]:
    """The shards of a plan, read from the store."""
    store = open_store(plan.store)
    return [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]


def give_template(reference: CampaignPlan, tenant: str) -> None:
    """Copy the compiled template of one tenant to another: a warm round."""
    store = open_store(reference.store)
    theirs, ours = ArtifactCache(store, reference.tenant), ArtifactCache(store, tenant)
    template = units_of(reference)[0].template
    for name, material in template.materials.items():
        if MAKER[name].scope != "template":
            continue
        found: Manifest | None = theirs.lookup(name, material.key())
        if found is None:
            continue
        for blob in found.outputs.values():
            store.copy(theirs.blob_key(blob.sha256), ours.blob_key(blob.sha256))
        ours.publish(found.material, found.outputs, found.facts, seconds=found.seconds)
