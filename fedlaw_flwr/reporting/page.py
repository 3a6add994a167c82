"""The report of a run as a page: what it shows, and one HTML file that needs nothing from anywhere to show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedlaw_flwr.reporting.figures import report_extra

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def render(page: "Page") -> str:
    """The page as HTML. Silos' names and reasons come from anyone: all but our own picture is escaped."""
    with report_extra():
        import jinja2
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["bytes"] = readable_bytes
    environment.finalize = lambda value: "" if value is None else value
    return environment.from_string(TEMPLATE).render(page=page)


def readable_bytes(count: int | None) -> str:
    """12.3 MB for 12300000; nothing for None."""
    if count is None:
        return ""
    unit, size = next(((unit, size) for unit, size in _UNITS if count >= size), ("B", 1))
    return f"{count} B" if size == 1 else f"{count / size:.1f} {unit}"


@dataclass(frozen=True)
class SiloRow:
    """One silo over a whole run.

    Attributes:
        attack: Its attack; None if it is not known to attack.
        weight: Its weight at the end; None if it was not there.
    """

    name: str
    attack: str | None
    outcome: str
    is_loss: bool
    weight: float | None
    first_without: int | None
    rounds_without: int
    rejected: int
    silent: int
    clipped: int
    raised: int
    median_loss: float | None
    why: str


@dataclass(frozen=True)
class GateRow:
    """The replies of one silo that were rejected, or did not come, for one reason."""

    rounds: str
    times: int
    exchange: int
    silo: str
    what: str
    reason: str


@dataclass(frozen=True)
class Cost:
    """Bytes and seconds of one kind of exchange over a run, of the server's own work (None: no replies), or of all."""

    name: str
    times: int
    seconds: float
    answered: int | None = None
    rejected: int | None = None
    silent: int | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None


@dataclass(frozen=True)
class Page:
    """All that the report says, in its order; the template only formats it."""

    title: str
    alarm: str
    story: Sequence[str]
    warnings: Sequence[str]
    picture: str
    legend: str
    attack_known: bool
    has_weights: bool
    silos: Sequence[SiloRow]
    notes: Sequence[str]
    gate: Sequence[GateRow]
    gate_more: int
    skipped: Sequence[tuple[str, str]]
    costs: Sequence[Cost]
    settings: Sequence[tuple[str, Any, Any]]


TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
p, li { max-width: 60rem; overflow-wrap: anywhere; }
.story { font-size: 1.05rem; margin: .4rem 0; }
.alarm { border-left: 4px solid #b3261e; padding: .4rem .8rem; background: #fbeeed; }
.note { color: #555; }
.picture svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; line-height: 1.4; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #e3e3e3; }
th { border-bottom: 1px solid #888; vertical-align: bottom; font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.name { min-width: 7rem; max-width: 14rem; overflow-wrap: anywhere; }
td.text { min-width: 22rem; max-width: 44rem; overflow-wrap: anywhere; }
tr.loss td { background: #fbeeed; }
tr.total td { border-top: 1px solid #888; font-weight: 600; }
tr.changed td { font-weight: 600; }
@media print {
  body { margin: 0; max-width: none; font-size: 10pt; }
  .wide { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: .1rem .3rem; }
  td.text { min-width: 0; }
  tr, .picture { break-inside: avoid; }
  h2 { break-after: avoid; }
}
</style>
</head>
<body>
<h1>{{ page.title }}</h1>
{% if page.alarm %}<p class="alarm">{{ page.alarm }}</p>{% endif %}
{% for sentence in page.story %}<p class="story">{{ sentence }}</p>
{% endfor %}
{% for warning in page.warnings %}<p class="note">Warned before the start: {{ warning }}.</p>
{% endfor %}
{% if page.picture %}<div class="picture">{{ page.picture | safe }}</div>{% endif %}

{% if page.silos %}
<h2>Silos</h2>
<p class="note">{{ page.legend }}</p>
<div class="wide"><table>
<tr><th>Silo</th>{% if page.attack_known %}<th>Attack</th>{% endif %}<th>Outcome</th>
{% if page.has_weights %}<th class="n">Final weight</th><th class="n">First round without</th>
<th class="n">Rounds without</th>{% endif %}
<th class="n">Rejected</th><th class="n">Silent</th><th class="n">Clipped</th><th class="n">Loss raised</th>
<th class="n">Median loss</th><th>Why</th></tr>
{% for silo in page.silos %}
<tr{% if silo.is_loss %} class="loss"{% endif %}><td class="name">{{ silo.name }}</td>
{% if page.attack_known %}<td>{{ silo.attack }}</td>{% endif %}<td>{{ silo.outcome }}</td>
{% if page.has_weights %}<td class="n">{{ "" if silo.weight is none else "%.4f" | format(silo.weight) }}</td>
<td class="n">{{ silo.first_without }}</td><td class="n">{{ silo.rounds_without or "" }}</td>{% endif %}
<td class="n">{{ silo.rejected or "" }}</td><td class="n">{{ silo.silent or "" }}</td>
<td class="n">{{ silo.clipped or "" }}</td><td class="n">{{ silo.raised or "" }}</td>
<td class="n">{{ "" if silo.median_loss is none else "%.3f" | format(silo.median_loss) }}</td>
<td class="text">{{ silo.why }}</td></tr>
{% endfor %}
</table></div>
{% for note in page.notes %}<p class="note">{{ note }}</p>
{% endfor %}
{% endif %}

<h2>Rejected replies and silent silos</h2>
{% if page.gate %}
<div class="wide"><table>
<tr><th>Rounds</th><th class="n">Times</th><th class="n">Exchange</th><th>Silo</th><th>What</th><th>Reason</th></tr>
{% for row in page.gate %}
<tr><td>{{ row.rounds }}</td><td class="n">{{ row.times }}</td><td class="n">{{ row.exchange }}</td>
<td class="name">{{ row.silo }}</td><td>{{ row.what }}</td><td class="text">{{ row.reason }}</td></tr>
{% endfor %}
</table></div>
{% if page.gate_more %}<p class="note">{{ page.gate_more }} more are in events.jsonl.</p>{% endif %}
{% else %}<p>None: every reply passed the gate and no silo was silent.</p>{% endif %}

<h2>Skipped rounds</h2>
{% if page.skipped %}
<div class="wide"><table>
<tr><th>Rounds</th><th>Why the model stayed as it was</th></tr>
{% for rounds, reason in page.skipped %}<tr><td>{{ rounds }}</td><td class="text">{{ reason }}</td></tr>
{% endfor %}
</table></div>
{% else %}<p>None.</p>{% endif %}

<h2>Bytes and seconds</h2>
{% if page.costs %}
<div class="wide"><table>
<tr><th></th><th class="n">Times</th><th class="n">Replies used</th><th class="n">Rejected</th>
<th class="n">Silent</th><th class="n">To the silos</th><th class="n">From the silos</th><th class="n">Seconds</th></tr>
{% for cost in page.costs %}
<tr{% if loop.last %} class="total"{% endif %}><td>{{ cost.name }}</td><td class="n">{{ cost.times }}</td>
<td class="n">{{ cost.answered }}</td><td class="n">{{ cost.rejected }}</td><td class="n">{{ cost.silent }}</td>
<td class="n">{{ cost.bytes_down | bytes }}</td><td class="n">{{ cost.bytes_up | bytes }}</td>
<td class="n">{{ "%.1f" | format(cost.seconds) }}</td></tr>
{% endfor %}
</table></div>
{% else %}<p>No round was completed.</p>{% endif %}

<h2>Settings</h2>
<p class="note">Bold: not the default of the installed version, which is given beside it.</p>
<div class="wide"><table>
{% for name, value, default in page.settings %}
<tr{% if default is not none %} class="changed"{% endif %}><td>{{ name }}</td><td class="name">{{ value }}</td>
<td>{{ default }}</td></tr>
{% endfor %}
</table></div>
</body>
</html>
"""
