"""The page's frame: landmarks, headings and controls; views.py fills them."""

from collections.abc import Mapping, Sequence

from dash import dcc, html
from dash.development.base_component import Component

from bridge.quantity_names import QUANTITY_NAMES, quantity_name
from bridge.web import charts
from bridge.web.facts import Facts
from bridge.web.letters import letters
from bridge.web.texts import LANGUAGES, Texts
from bridge.web.views import (
    Attributes,
    Children,
    alarms,
    archives,
    headline,
    in_column,
    labelled,
    nodes,
    notices,
    way,
)
from mqtt_client.version import own_version

TICK_MS = 1000
PULSE_MS = 10_000
RANGES_S = {"1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
OWN_RANGE = "own"
ALL_NODES = "*"
YOUNG_MS = 3 * 3600 * 1000
SECTION_IDS = {"letters": "dead-letters"}


def document(text: Texts, parts: Mapping[str, str]) -> str:
    """Return the document around the page, in one language; ``parts`` are Dash's."""
    return f"""<!DOCTYPE html>
<html lang="{text.language}">
<head>
{parts["metas"]}
<title>{text("title")}</title>
{parts["favicon"]}
{parts["css"]}
</head>
<body>
<noscript><p class="notice still">{text("no_script")}</p></noscript>
<div id="react-entry-point"><main class="_dash-loading" aria-busy="true">
<h1>{text("title")}</h1>
<p role="status">{text("loading")}</p>
</main></div>
{parts["config"]}
{parts["scripts"]}
{parts["renderer"]}
</body>
</html>"""


def layout(facts: Facts, text: Texts, *, may_decide: bool, has_rules: bool) -> Component:
    """Return the whole page with what is known now."""
    return html.Div(
        [
            html.A(text("skip"), href="#main", className="skip"),
            html.Header(
                [
                    html.H1(text("title")),
                    html.Div(headline(facts, text), id="headline", role="status"),
                    _languages(text),
                ]
            ),
            html.Main(
                [
                    html.P(text("stale"), id="stale", className="notice still stale even", role="status"),
                    html.Div(notices(facts, text), id="notices", role="status"),
                    _section("way", text, [html.Ol(way(facts, text), id="way-strip", className="way")]),
                    _section("alarms", text, [html.Div(alarms(facts, text, has_rules=has_rules), id="alarms-list")]),
                    _section("nodes", text, [html.Div(nodes(facts, text), id="nodes-table")]),
                    _section(
                        "charts", text, [_controls(facts, text), html.Div(boxes(facts, text), id="chart-boxes")]
                    ),
                    _section(
                        "letters",
                        text,
                        [
                            html.P(id="decision", role="status", className="decision"),
                            html.Div(letters(facts, text, may_decide=may_decide), id="letters-list"),
                        ],
                    ),
                    _section("archives", text, [html.Div(archives(facts, text), id="archives-list")]),
                ],
                id="main",
                tabIndex=-1,
            ),
            html.Footer(text("version", version=own_version(), store=facts.status.store)),
            dcc.Interval(id="tick", interval=TICK_MS),
            dcc.Interval(id="beat", interval=TICK_MS),
            dcc.Interval(id="pulse", interval=PULSE_MS),
            dcc.Store(id="shown", data=signatures(facts, text)),
        ],
        className="page",
    )


def no_layout(text: Texts, reason: str) -> Component:
    """Return the page while nothing can be read, with why, and a link to try again."""
    said: Children = [
        html.H1(text("title")),
        html.P(text("unreadable", reason=text.reason(reason)), className="notice still", role="alert"),
        html.P(html.A(text("again"), href="")),
    ]
    return html.Main(said, id="main", className="page broken")


def signatures(facts: Facts, text: Texts) -> dict[str, str]:
    """Return what tells whether a part has changed: parts that did not are left alone, with what has the focus."""
    return {
        "headline": str(headline(facts, text)),
        "notices": f"{facts.fault} {facts.status.waiting.lost}",
        "letters": f"{[letter.id for letter in facts.letters]} {facts.status.waiting.dead_letters}",
        "archives": str(facts.archives),
        "lines": str(quantities(facts)),
        "nodes": str(node_names(facts)),
    }


def quantities(facts: Facts) -> list[str]:
    """Return the quantities that have charts, the well-known first."""
    known = list(QUANTITY_NAMES["en"])
    found = {line.quantity for line in facts.lines}
    return sorted(found, key=lambda one: (known.index(one) if one in known else len(known), one))


def boxes(facts: Facts, text: Texts) -> Children:
    """Return a place for the chart of each quantity."""
    found = quantities(facts)
    if not found:
        return [html.P(text("charts_none"), className="empty")]
    return [_box(quantity, text) for quantity in found]


def node_names(facts: Facts) -> list[str]:
    """Return the nodes that have charts."""
    return sorted({line.node for line in facts.lines})


def figures_table(name: str, rows: Sequence[tuple[str, ...]], text: Texts) -> Children:
    """Return the figures of a chart's lines as a table, which says what the picture says."""
    columns = ("line", "low", "mean", "high", "number")
    head = html.Thead(html.Tr([html.Th(text(column), scope="col") for column in columns]))
    body = [
        html.Tr(
            [
                html.Th(first, scope="row"),
                *(html.Td(cell, **in_column(text(name))) for cell, name in zip(rest, columns[1:], strict=True)),
            ]
        )
        for first, *rest in rows
    ]
    return [html.Table([html.Caption(name, className="unseen"), head, html.Tbody(body)], className="cards")]


def _section(name: str, text: Texts, content: Children) -> Component:
    heading = html.H2(text(name), id=f"{name}-heading")
    names: Attributes = {"aria-labelledby": f"{name}-heading"}
    return html.Section([heading, *content], id=SECTION_IDS.get(name, name), **names)


def _languages(text: Texts) -> Component:
    links: Children = []
    for language, name in LANGUAGES.items():
        current: Attributes = {"aria-current": "true"} if language == text.language else {}
        links.append(html.A(name, href=f"?lang={language}", lang=language, hrefLang=language, **current))
    return html.Nav(links, className="languages", **labelled(text("language")))


def _controls(facts: Facts, text: Texts) -> Component:
    ranges: Children = [
        html.Button(text(f"range_{name}"), id={"type": "range", "range": name}, className="choice", **pressed(False))
        for name in (*RANGES_S, OWN_RANGE)
    ]
    return html.Div(
        [
            _group(text("range"), ranges, "ranges"),
            html.Div(
                [*_date_input("from", text), *_date_input("to", text)], id="own-dates", hidden=True, className="dates"
            ),
            html.Button(text("unzoom"), id="unzoom", className="button quiet", hidden=True),
            html.Div(node_choice(facts, text, []), id="node-choice", className="choose"),
            dcc.Store(id="range", storage_type="local"),
            dcc.Store(id="nodes-chosen", storage_type="local"),
            dcc.Store(id="zoom"),
            dcc.Store(id="drawn"),
        ],
        className="controls",
    )


def node_choice(facts: Facts, text: Texts, chosen: Sequence[str]) -> Children:
    """Return a button for each node that has a chart, and one for all; one node needs no choice."""
    names = node_names(facts)
    if len(names) < 2:
        return []
    every = html.Button(
        text("all_nodes"), id={"type": "node", "node": ALL_NODES}, className="choice", **pressed(not chosen)
    )
    places = places_of(facts)
    buttons: Children = [
        html.Button(
            [html.Span(className="line", style={"background": charts.colour(places.get(name, 0))}), name],
            id={"type": "node", "node": name},
            className="choice",
            **pressed(name in chosen),
        )
        for name in names
    ]
    return [_group(text("choose_nodes"), [every, *buttons], "ranges nodes")]


def pressed(is_pressed: bool) -> Attributes:
    """Return the attribute that says whether a button that stays down is down."""
    return {"aria-pressed": "true" if is_pressed else "false"}


def first_range(facts: Facts) -> str:
    """Return the range that the page opens with: an hour while there is little more than that."""
    first_ms = facts.totals.first_seen_ms
    return "1h" if first_ms is None or facts.at_ms - first_ms < YOUNG_MS else "24h"


def places_of(facts: Facts) -> dict[str, int]:
    """Return each node's place among all: a node has one colour in every chart."""
    return {node.node: place for place, node in enumerate(facts.status.nodes)}


def _group(label: str, buttons: Children, className: str) -> Component:  # noqa: N803  # as Dash calls it
    return html.Fieldset([html.Legend(label), html.Div(buttons, className=className)])


def _date_input(name: str, text: Texts) -> Children:
    return [html.Label(text(name), htmlFor=name), dcc.Input(id=name, debounce=True, placeholder=text("date_form"))]


def _box(quantity: str, text: Texts) -> Component:
    name = quantity_name(quantity, text.language)
    return html.Article(
        [
            html.H3(
                [name, " ", html.Span(text("loading"), id={"type": "step", "quantity": quantity}, className="age")],
                id=f"chart-{quantity}",
            ),
            html.Div(
                dcc.Graph(
                    id={"type": "chart", "quantity": quantity},
                    config=charts.CONFIG,
                    figure=charts.blank(),
                    responsive=True,
                ),
                role="group",
                className="graph",
                **labelled(text("chart_of", quantity=name)),
            ),
            html.Details(
                [html.Summary(text("figures")), html.Div(id={"type": "figures", "quantity": quantity})],
                className="figures",
            ),
        ],
        className="chart",
    )
