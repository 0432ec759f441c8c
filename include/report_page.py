"""``report.html``: one page, no script, nothing fetched; pictures are inside."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from include.store import ObjectMissing, ObjectStore

if TYPE_CHECKING:
    from include.report import Outcome, RowOutcome, StageTotals

MAX_CARDS = 60
"""Recipients shown with a picture; the others are in the table."""

_STYLE = """
:root { --ink:#1b1f23; --soft:#5b6570; --line:#e3e7ea; --ok:#1f7a4d; --warn:#9a6700; --bad:#b3261e;
  --ground:#f6f7f8; --card:#fff; }
@media (prefers-color-scheme: dark) { :root { --ink:#e8eaed; --soft:#9aa4ae; --line:#30363d;
  --ok:#4cc38a; --warn:#e3b341; --bad:#ff7b72; --ground:#15181b; --card:#1d2125; } }
* { box-sizing:border-box } body { margin:0; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:1080px; margin:0 auto; padding:32px 20px 64px } h1 { font-size:26px; margin:0 }
h2 { font-size:17px; margin:36px 0 12px } p.sub { color:var(--soft); margin:4px 0 0 }
.figures { display:flex; flex-wrap:wrap; gap:12px; margin-top:24px }
.figure { background:var(--card); border:1px solid var(--line); border-radius:10px;
  padding:12px 18px; min-width:130px } .figure b { display:block; font-size:22px }
.figure span { color:var(--soft); font-size:13px }
.cards { display:grid; grid-template-columns:repeat(auto-fill,minmax(240px,1fr)); gap:16px }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px; overflow:hidden }
.card img { width:100%; display:block; aspect-ratio:16/9; object-fit:cover; background:#000 }
.card div { padding:10px 14px 12px } .card small { color:var(--soft); display:block }
table { border-collapse:collapse; width:100%; background:var(--card); border:1px solid var(--line);
  border-radius:10px; overflow:hidden; font-size:14px } th,td { text-align:left; padding:8px 12px;
  border-top:1px solid var(--line); vertical-align:top } thead th { border-top:0;
  color:var(--soft); font-weight:600 } td.n,th.n { text-align:right;
  font-variant-numeric:tabular-nums } .delivered { color:var(--ok) } .waiting { color:var(--warn) }
.failed,.rejected { color:var(--bad) } .wide { overflow-x:auto }
code { font:13px ui-monospace,Menlo,Consolas,monospace }
"""


def render_page(outcome: Outcome, store: ObjectStore) -> str:
    """The report of a run as one HTML page.

    Args:
        outcome: what became of the campaign.
        store: where the published thumbnails lie.
    """
    campaign = escape(outcome.plan.campaign)
    delivered, rows = len(outcome.delivered), len(outcome.rows)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = [
        f"<h1>{campaign}</h1>",
        f'<p class="sub">{escape(outcome.plan.tenant)} · run <code>{escape(outcome.run_id)}</code>'
        f" · {when} · {outcome.said}</p>",
        _figures(outcome, delivered, rows),
        _cards(outcome, store),
        _missing([row for row in outcome.rows if row.status != "delivered"]),
        _stages(outcome.stages),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{campaign}: {delivered} of {rows} delivered</title>"
        f"<style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _paid(outcome: Outcome) -> list[tuple[str, str]]:
    if not outcome.remote_cost:
        return []
    return [(f"{outcome.remote_cost:.4f} {escape(outcome.currency)}", "paid to model APIs so far")]


def _instead(row: RowOutcome) -> str:
    """What a video was made with instead of what was planned."""
    return f"<br><small>{escape(row.instead)}</small>" if row.instead else ""


def _figures(outcome: Outcome, delivered: int, rows: int) -> str:
    seconds = sum(float(row.facts.get("seconds", 0)) for row in outcome.delivered)
    made = sum(stage.made for stage in outcome.stages.values())
    cached = sum(stage.hit for stage in outcome.stages.values())
    figures = [
        (f"{delivered} of {rows}", "videos delivered, signed and verified"),
        (f"{seconds:.0f} s", "of video"),
        (f"{outcome.cpu_seconds:.0f} s", "processor time of this run"),
        (f"{outcome.cost:.4f} {escape(outcome.currency)}", "at the configured core-hour price"),
        *_paid(outcome),
        (f"{made} / {cached}", "artifacts made / taken from the cache"),
    ]
    cells = "".join(
        f'<div class="figure"><b>{value}</b><span>{label}</span></div>' for value, label in figures
    )
    return f'<div class="figures">{cells}</div>'


def _cards(outcome: Outcome, store: ObjectStore) -> str:
    shown = outcome.delivered[:MAX_CARDS]
    if not shown:
        return ""
    cards = "".join(_card(row, store) for row in shown)
    rest = len(outcome.delivered) - len(shown)
    more = f'<p class="sub">and {rest} more, see results.csv</p>' if rest else ""
    return f'<h2>Delivered</h2><div class="cards">{cards}</div>{more}'


def _card(row: RowOutcome, store: ObjectStore) -> str:
    name = escape(row.recipient)
    facts = row.facts
    size = f"{facts['width']}×{facts['height']}, {facts['seconds']:.1f} s" if facts else ""
    link = f"{name}/video.mp4"
    verdict = "passed" if row.verdict == "pass" else "approved by a person"
    return (
        f'<div class="card"><a href="{link}">{_picture(row, store)}</a><div><b>{name}</b>'
        f"<small>{size} · {verdict}</small>"
        f"<small><code>{escape(row.sha256[:16])}</code></small>{_instead(row)}</div></div>"
    )


def _picture(row: RowOutcome, store: ObjectStore) -> str:
    try:
        data = store.get(row.files["thumbnail.jpg"])
    except (KeyError, ObjectMissing):
        return ""
    encoded = base64.b64encode(data).decode()
    alt = f"frame of the video for {escape(row.recipient)}"
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{encoded}">'


def _missing(rows: list[RowOutcome]) -> str:
    if not rows:
        return ""
    body = "".join(
        f'<tr><td class="n">{row.line}</td><td>{escape(row.recipient)}</td>'
        f'<td class="{row.status}">{row.status}</td><td>{escape(row.stage)}</td>'
        f"<td><code>{escape(row.code)}</code></td><td>{escape(row.message)}</td></tr>"
        for row in rows
    )
    return (
        '<h2>Not delivered</h2><div class="wide"><table><thead><tr><th class="n">Line</th>'
        "<th>Recipient</th><th>Status</th><th>Stage</th><th>Code</th><th>Why, and what to do</th>"
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _stages(stages: dict[str, StageTotals]) -> str:
    body = "".join(
        f'<tr><td>{name}</td><td class="n">{total.made}</td><td class="n">{total.hit}</td>'
        f'<td class="n">{total.failed}</td><td class="n">{total.processes}</td>'
        f'<td class="n">{total.seconds:.1f}</td><td class="n">{total.cpu_seconds:.1f}</td>'
        f'<td class="n">{total.io_seconds:.1f}</td></tr>'
        for name, total in stages.items()
    )
    return (
        '<h2>Stages of this run</h2><div class="wide"><table><thead><tr><th>Stage</th>'
        '<th class="n">Made</th><th class="n">Cached</th><th class="n">Failed</th>'
        '<th class="n">Processes</th><th class="n">Seconds</th><th class="n">CPU seconds</th>'
        '<th class="n">Waiting for the store</th></tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
