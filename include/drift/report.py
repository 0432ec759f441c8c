"""The page that explains a validation: one file, no script, nothing fetched, pictures inside."""

from __future__ import annotations

import base64
import wave
from collections.abc import Sequence
from html import escape

from include.drift.charts import histogram, history
from include.drift.records import DriftVerdict, Finding, GateState, KindVerdict, Offender, Outcome
from include.drift.thumbnails import thumbnail
from include.store import ObjectMissing, ObjectStore

_WORDS: dict[Outcome, str] = {
    "ok": "as expected",
    "drift": "has drifted",
    "broken": "breaks hard rules",
    "no_reference": "no reference yet",
    "too_few": "too few rows",
}
_TONE: dict[Outcome, str] = {
    "ok": "ok",
    "drift": "bad",
    "broken": "bad",
    "no_reference": "warn",
    "too_few": "soft",
}
_STYLE = """
:root { --ink:#1b1f23; --soft:#5b6570; --line:#e3e7ea; --ok:#1f7a4d; --warn:#9a6700; --bad:#b3261e;
  --ground:#f6f7f8; --card:#fff; --ref:#c3ccd4; --cur:#2563a8 }
@media (prefers-color-scheme: dark) { :root { --ink:#e8eaed; --soft:#9aa4ae; --line:#30363d;
  --ok:#4cc38a; --warn:#e3b341; --bad:#ff7b72; --ground:#15181b; --card:#1d2125; --ref:#444d56;
  --cur:#79b8ff } }
* { box-sizing:border-box } body { margin:0; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:1080px; margin:0 auto; padding:32px 20px 64px } h1 { font-size:26px; margin:0 }
h2 { font-size:20px; margin:44px 0 2px } h3 { font-size:15px; margin:0 }
h4 { font-size:13px; color:var(--soft); margin:24px 0 8px; font-weight:600 }
p { margin:4px 0 0 } .sub { color:var(--soft) }
.tag { font-size:13px; font-weight:600; border-radius:99px; padding:2px 10px; margin-left:8px;
  vertical-align:3px; border:1px solid currentColor }
.ok { color:var(--ok) } .warn { color:var(--warn) } .bad { color:var(--bad) }
.soft { color:var(--soft) }
.note { background:var(--card); border:1px solid var(--line); border-left:4px solid var(--bad);
  border-radius:8px; padding:12px 16px; margin-top:20px }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(320px,1fr)); gap:16px;
  margin-top:16px }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px;
  padding:14px 16px } .card p { font-size:14px } .card .sub { font-size:13px }
.faces { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:12px }
.face { background:var(--card); border:1px solid var(--line); border-radius:10px; overflow:hidden;
  font-size:13px } .face img { width:100%; display:block; aspect-ratio:4/3;
  object-fit:cover; background:var(--line) } .face div.t { padding:8px 10px }
.face b { display:block; overflow:hidden; text-overflow:ellipsis; white-space:nowrap }
table { border-collapse:collapse; width:100%; background:var(--card); border:1px solid var(--line);
  border-radius:10px; overflow:hidden; font-size:14px; margin-top:8px }
th,td { text-align:left; padding:6px 12px; border-top:1px solid var(--line) }
thead th { border-top:0; color:var(--soft); font-weight:600 }
td.n,th.n { text-align:right; font-variant-numeric:tabular-nums } .wide { overflow-x:auto }
svg { display:block } svg.hist { width:100%; margin-top:10px } svg.spark { width:150px;
  height:36px }
svg text { font:15px system-ui,sans-serif; fill:var(--soft) } .ref { fill:var(--ref) }
.cur { fill:var(--cur) } .axis { stroke:var(--line) } .limit { stroke:var(--bad);
  stroke-dasharray:3 3; opacity:.7 } polyline { fill:none; stroke:var(--soft); stroke-width:1.2 }
circle.over { fill:var(--bad) } circle.under { fill:var(--soft) }
.key { display:inline-block; width:12px; height:12px; border-radius:2px; margin:0 5px 0 14px;
  vertical-align:-1px } details { margin-top:16px } summary { cursor:pointer; color:var(--soft) }
code { font:13px ui-monospace,Menlo,Consolas,monospace }
"""


def render_report(
    verdict: DriftVerdict,
    past: Sequence[DriftVerdict],
    gates: Sequence[GateState],
    store: ObjectStore,
) -> str:
    """A validation as one HTML page.

    Args:
        verdict: what was found.
        past: earlier verdicts of the tenant, oldest first.
        gates: the tenant's open gates.
        store: where pictures of the worst assets lie.
    """
    said = _headline(verdict)
    body = [
        f"<h1>{escape(said)}</h1>",
        f'<p class="sub">{escape(verdict.tenant)} · {verdict.at:%Y-%m-%d %H:%M UTC} · run '
        f"<code>{escape(verdict.run_id)}</code></p>",
        '<p class="sub"><span class="key" style="background:var(--ref);margin-left:0"></span>'
        'reference<span class="key" style="background:var(--cur)"></span>now; each as a share of '
        "its own rows</p>",
        *[_gate(gate) for gate in gates],
        *[_kind(one, past, store) for one in sorted(verdict.kinds, key=_urgency)],
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(verdict.tenant)}: {escape(said)}</title>"
        f"<style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


_ORDER: tuple[Outcome, ...] = ("drift", "broken", "ok", "no_reference", "too_few")


def _urgency(verdict: KindVerdict) -> int:
    return _ORDER.index(verdict.outcome)


def _headline(verdict: DriftVerdict) -> str:
    drifted = [one.kind for one in verdict.kinds if one.outcome == "drift"]
    broken = [one.kind for one in verdict.kinds if one.breaches]
    if drifted:
        return f"Drift in {_listed(drifted)} assets"
    if broken:
        return f"Hard rules are broken by {_listed(broken)} assets"
    if any(one.outcome == "ok" for one in verdict.kinds):
        return "Everything that could be compared is as expected"
    return "Nothing to compare yet"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _gate(gate: GateState) -> str:
    return (
        f'<div class="note"><b>The gate for {gate.kind} assets is open</b> since '
        f"{gate.at:%Y-%m-%d %H:%M UTC}: {escape(gate.said)}. It closes when a person accepts the "
        "new data as the reference or says that it was repaired, or when later rows are as "
        "expected.</div>"
    )


def _kind(verdict: KindVerdict, past: Sequence[DriftVerdict], store: ObjectStore) -> str:
    drifted = verdict.drifted
    others = [finding for finding in verdict.findings if finding.state != "drifted"]
    judged = sum(finding.state != "too_few" for finding in verdict.findings)
    span = ""
    if verdict.since and verdict.until:
        span = f", {verdict.since:%Y-%m-%d %H:%M} to {verdict.until:%Y-%m-%d %H:%M}"
    against = f" · reference version {verdict.version}" if verdict.version else ""
    count = f" · {len(drifted)} of {judged} compared features drifted" if judged else ""
    parts = [
        f"<h2>{verdict.kind.capitalize()}"
        f'<span class="tag {_TONE[verdict.outcome]}">{_WORDS[verdict.outcome]}</span></h2>',
        f'<p class="sub">{verdict.rows:,} rows{span}{against}{count}</p>',
        _breaches(verdict) + _refusals(verdict, past),
        "".join(_card(finding, _sizes(finding, verdict, past)) for finding in drifted),
        _offenders(verdict.offenders, store),
        _others(others, verdict, past),
    ]
    if drifted:
        parts[3] = f'<div class="grid">{parts[3]}</div>'
    return "".join(parts)


def _breaches(verdict: KindVerdict) -> str:
    if not verdict.breaches:
        return ""
    body = "".join(
        f'<tr><td><code>{escape(one.rule)}</code></td><td class="n bad">{one.rows:,}</td>'
        f"<td>{escape(one.said)}</td></tr>"
        for one in verdict.breaches
    )
    return (
        '<h4>Hard rules that stored rows break</h4><div class="wide"><table><thead><tr><th>Rule'
        f'</th><th class="n">Rows</th><th>What it asks for</th></tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _refusals(verdict: KindVerdict, past: Sequence[DriftVerdict]) -> str:
    """What hard rules refused in the same time: no row of it was compared with anything."""
    if not verdict.refused:
        return ""
    body = "".join(
        f'<tr><td><code>{escape(one.rule)}</code></td><td class="n">{one.rows:,}</td></tr>'
        for one in verdict.refusals
    )
    said = f"Refused by hard rules, and in no comparison: {verdict.refused:,}"
    return (
        f"<h4>{said}{_shares(verdict, past)}</h4>"
        '<div class="wide"><table><thead><tr><th>Rule</th><th class="n">Assets</th></tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _shares(verdict: KindVerdict, past: Sequence[DriftVerdict]) -> str:
    """The refused as a share of all, now and in earlier runs."""
    before = [one for run in past for one in run.kinds if one.kind == verdict.kind]
    refused, rows = sum(one.refused for one in before), sum(one.new for one in before)
    said = f", {verdict.refused / (verdict.refused + verdict.new):.0%} of what is new"
    if refused + rows:
        said += f"; {refused / (refused + rows):.0%} in {len(before)} earlier runs"
    return said


def _card(finding: Finding, sizes: Sequence[float | None]) -> str:
    return (
        f'<div class="card"><h3 class="bad">{escape(finding.feature)}</h3>'
        f"<p>{escape(finding.said.removeprefix(finding.feature + ': '))}</p>"
        f"{_hist(finding)}<p class='sub'>{escape(_figures(finding))}</p>{_spark(finding, sizes)}"
        "</div>"
    )


def _hist(finding: Finding) -> str:
    if finding.bars is None:
        return ""
    title = f"{finding.feature}: reference and now"
    return histogram(finding.bars, title, finding.unit)


def _figures(finding: Finding) -> str:
    measure = "sd" if finding.test == "ks_wasserstein" and finding.what == "values" else "of rows"
    size = f"{finding.size:.2f}" if (finding.size or 0) < 1e5 else "beyond measure"
    parts = [f"{size} {measure} apart (alarm above {finding.threshold:g})"]
    if finding.p is not None:
        parts.append("p < 1e-12" if finding.p < 1e-12 else f"p = {finding.p:.1e}")
    if finding.psi is not None:
        parts.append(f"PSI {finding.psi:.2f}")
    parts.append(f"{finding.rows_current:,} values against {finding.rows_reference:,}")
    return " · ".join(parts)


def _sizes(
    finding: Finding, verdict: KindVerdict, past: Sequence[DriftVerdict]
) -> list[float | None]:
    """How far apart a feature was in earlier runs, and is now."""
    earlier = [
        next((f.size for f in one.findings if f.feature == finding.feature), None)
        for run in past
        for one in run.kinds
        if one.kind == verdict.kind
    ]
    return [*earlier, finding.size]


def _spark(finding: Finding, sizes: Sequence[float | None]) -> str:
    known = [size for size in sizes if size is not None]
    if len(known) < 2:
        return ""
    title = f"{finding.feature}: distance from the reference in the last {len(sizes)} runs"
    return history(sizes, finding.threshold, title)


def _offenders(offenders: Sequence[Offender], store: ObjectStore) -> str:
    if not offenders:
        return ""
    cards = "".join(
        f'<div class="face">{_picture(one, store)}<div class="t"><b>{escape(one.unit)}</b>'
        f'<span class="sub">{escape(one.campaign)}<br>{escape(one.feature)} '
        f"{escape(_value(one.value))}</span></div></div>"
        for one in offenders
    )
    return f'<h4>Look at these first</h4><div class="faces">{cards}</div>'


def _value(value: float | str | bool | None) -> str:
    if value is None:
        return "not measurable"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else value


def _picture(offender: Offender, store: ObjectStore) -> str:
    try:
        data = store.get(offender.picture) if offender.picture else b""
    except ObjectMissing:
        data = b""
    if not data:
        return ""
    try:
        encoded = base64.b64encode(thumbnail(data)).decode()
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        wave.Error,
    ):  # damaged in the store: the report matters more
        return ""
    return f'<img alt="{escape(offender.unit)}" src="data:image/jpeg;base64,{encoded}">'


def _others(findings: Sequence[Finding], verdict: KindVerdict, past: Sequence[DriftVerdict]) -> str:
    if not findings:
        return ""
    body = "".join(
        f"<tr><td>{escape(one.feature)}</td>"
        f"<td>{escape(one.said.removeprefix(one.feature + ': '))}</td>"
        f'<td class="n">{_number(one.psi)}</td>'
        f"<td>{_spark(one, _sizes(one, verdict, past))}</td></tr>"
        for one in findings
    )
    few = sum(one.state == "too_few" for one in findings)
    note = f", {few} of them with too few values" if few else ""
    is_open = " open" if not verdict.drifted and few < len(findings) else ""
    return (
        f"<details{is_open}><summary>{len(findings)} features without "
        f'drift{note}</summary><div class="wide"><table><thead><tr><th>Feature</th>'
        '<th>Now and before</th><th class="n">PSI</th><th>Distance, run by run</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
