"""What the page shows, as Dash components, from the facts of one moment. Text from outside is always a text node."""

from typing import Any

from dash import html
from dash.development.base_component import Component

from bridge.quantity_names import quantity_name
from bridge.status import NodeStatus
from bridge.web.facts import ArchiveFiles, Facts, Line
from bridge.web.texts import Texts
from bridge.web.way import Flow, Stage, Why, standing_still
from mqtt_client.logs import escape
from mqtt_client.reading import UNITS

SPARK_EVERY_MS = 30_000
VALUES_SHOWN = 8
ARCHIVES_UNFOLDED = 8

Children = list[Component | str]
Attributes = dict[str, Any]
"""Attributes of HTML with a hyphen, as keyword arguments; Dash's own types do not know them."""


def labelled(label: str) -> Attributes:
    """Return the attribute that names an element to who does not see it."""
    return {"aria-label": label}


def in_column(label: str) -> Attributes:
    """Return the attribute from which a cell gets its heading where a table is shown as cards."""
    return {"data-label": label}


def prose(sentence: str) -> Children:
    """Return a sentence with what stands between backticks as code."""
    return [html.Code(part) if place % 2 else part for place, part in enumerate(sentence.split("`"))]


def why_text(why: Why, text: Texts) -> str:
    """Return why a door stands still, in one sentence."""
    named = {name.removesuffix("_s"): _said(name, value, text) for name, value in why.named.items()}
    return escape(text(why.key, **named))


def _said(name: str, value: object, text: Texts) -> object:
    if name == "reason":
        return text.reason(str(value))
    return text.age(float(value)) if name.endswith("_s") and isinstance(value, float | int) else value


def headline(facts: Facts, text: Texts) -> Children:
    """Return the page's one line: all is well, or where it stands still."""
    still = standing_still(facts.stages)
    if still:
        places = ", ".join(text(stage.place) for stage in still)
        return [badge("still", text("standing", places=places))]
    if facts.alarms or _is_worth_a_look(facts):
        return [badge("waiting", text("watch"))]
    return [badge("ok", text("all_well"))]


def _is_worth_a_look(facts: Facts) -> bool:
    troubled = any(node.state in ("offline", "late") or node.sensor_faults for node in facts.status.nodes)
    slowed = any(stage.flow in (Flow.WAITING, Flow.STILL) for stage in facts.stages)
    return troubled or slowed or bool(facts.status.waiting.dead_letters)


def notices(facts: Facts, text: Texts) -> Children:
    """Return what must be said above all else."""
    found: Children = []
    if facts.fault:
        found.append(html.P(text("broken", reason=escape(text.reason(facts.fault))), className="notice still"))
    lost = facts.status.waiting.lost
    if lost:
        key = "lost_told_1" if lost == 1 else "lost_told"
        found.append(html.P(text(key, number=lost), className="notice waiting"))
    return found


def way(facts: Facts, text: Texts) -> Children:
    """Return the strip: five doors, how much waits at each, and why one stands still."""
    return [_stage(stage, text) for stage in facts.stages]


def _stage(stage: Stage, text: Texts) -> Component:
    what: Children = [html.Span(text(f"what_{stage.place}"), className="what")]
    if stage.place == "broker":
        what.insert(0, html.Span(text.ago(stage.age_s), className="figure"))
    else:
        what.insert(0, html.Span("–" if stage.count is None else text.count(stage.count), className="figure"))
        if stage.age_s is not None and stage.count and stage.place in ("outbox", "server"):
            what.append(html.Span(text("oldest", age=text.age(stage.age_s)), className="age"))
        elif stage.age_s is not None and stage.place == "archive":
            what.append(html.Span(text("last_archive", ago=text.ago(stage.age_s)), className="age"))
    said: Children = [html.P(html.Span(prose(why_text(stage.why, text))), className="why")] if stage.why else []
    heading = html.H3([text(stage.place), " ", badge(stage.flow.value, text(f"flow_{stage.flow.value}"))])
    return html.Li([heading, html.P(what), *said], className=f"stage {stage.flow.value}", id=f"way-{stage.place}")


def alarms(facts: Facts, text: Texts, *, has_rules: bool) -> Children:
    """Return what is out of bounds now."""
    if not facts.alarms:
        return [html.P(text("alarms_none" if has_rules else "alarms_no_rules"), className="empty")]
    return [
        html.Ul(
            [
                html.Li(
                    [
                        badge("still" if one.severity == "critical" else "waiting", text(f"severity_{one.severity}")),
                        html.Span(escape(one.text)),
                        html.Span(
                            text("alarm_since", age=text.age((facts.at_ms - one.since_ms) / 1000)), className="age"
                        ),
                    ]
                )
                for one in facts.alarms
            ],
            className="alarms",
        )
    ]


def nodes(facts: Facts, text: Texts) -> Children:
    """Return the table of nodes, or what to do where there is none."""
    if not facts.status.nodes:
        return [
            html.P(text("nodes_none"), className="empty"),
            html.P(prose(text("nodes_none_help")), className="help"),
        ]
    columns = ("node", "state", "values", "age", "waiting", "lost")
    lines: dict[str, list[Line]] = {}
    for line in facts.lines:
        lines.setdefault(line.node, []).append(line)
    version = facts.at_ms // SPARK_EVERY_MS
    head = html.Thead(html.Tr([html.Th(text(column), scope="col") for column in columns]))
    rows = [_node(node, lines.get(node.node, []), version, text) for node in facts.status.nodes]
    return [html.Table([html.Caption(text("nodes"), className="unseen"), head, html.Tbody(rows)], className="cards")]


def _node(node: NodeStatus, lines: list[Line], version: int, text: Texts) -> Component:
    flows = {"online": "ok", "offline": "still", "late": "waiting"}
    badges: Children = [badge(flows.get(node.state, "off"), text(f"state_{node.state}"))]
    if node.clock == "unsynced":
        badges.append(badge("waiting", text("state_clock")))
    for sensor, fault in list(node.sensor_faults.items())[:4]:
        label = f"{text('state_fault')}: {escape(sensor)[:64]}"
        badges.append(html.Span([badge("still", label), html.Span(escape(fault)[:200], className="fault")]))
    values = _values(node, lines, version, text)
    kept: Children = ["–" if node.outbox_depth is None else text.count(node.outbox_depth)]
    if node.outbox_depth and node.outbox_oldest_age_s is not None:
        kept.append(html.Span(text("oldest", age=text.age(node.outbox_oldest_age_s)), className="age"))
    cells: list[tuple[str, Children]] = [
        ("state", badges),
        ("values", [html.Ul(values, className="values")]),
        ("age", [text.ago(node.last_age_s)]),
        ("waiting", kept),
        ("lost", [text.count(node.lost)]),
    ]
    return html.Tr(
        [
            html.Th(node.node, scope="row", className="node"),
            *(
                html.Td(
                    content,
                    className=f"{name} nothing" if content in (["0"], ["–"]) else name,
                    **in_column(text(name)),
                )
                for name, content in cells
            ),
        ],
        id=f"node-{node.node}",
        className=node.state,
    )


def _values(node: NodeStatus, lines: list[Line], version: int, text: Texts) -> Children:
    """Return the newest value of each quantity of each sensor: the node's own note first, it is the newest."""
    now_known = {(node.last_sensor, quantity): value for quantity, value in node.last_values.items()}
    by_key = {(line.sensor, line.quantity): line for line in lines}
    keys = list(by_key) + [key for key in now_known if key not in by_key]
    sensors = {sensor for sensor, _ in keys}
    shown: Children = []
    for sensor, quantity in keys[:VALUES_SHOWN]:
        line = by_key.get((sensor or "", quantity))
        value = now_known.get((sensor, quantity), line.last_value if line else None)
        if value is not None:
            shown.append(_value(quantity, value, sensor if len(sensors) > 1 else None, line, version, text))
    if len(keys) > VALUES_SHOWN:
        shown.append(html.Li(f"+ {text.count(len(keys) - VALUES_SHOWN)}"))
    return shown


def _value(
    quantity: str, value: float, sensor: str | None, line: Line | None, version: int, text: Texts
) -> Component:
    name = quantity_name(quantity, text.language)
    label: Children = [name, html.Span(f" {sensor}", className="sensor")] if sensor else [name]
    shown: Children = [
        html.Span(label, className="quantity"),
        html.Span(text.measured(value, UNITS.get(quantity) or ""), className="value"),
    ]
    if line is not None:
        address = f"spark/{line.id}.svg?v={version}"
        shown.append(html.Img(src=address, alt=text("spark", quantity=name), className="spark", width=84, height=22))
    return html.Li(shown)


def archives(facts: Facts, text: Texts) -> Children:
    """Return the newest archives with their files to download, the older of them folded away."""
    if not facts.archives:
        return [html.P(text("archives_none"), className="empty")]
    shown: Children = [_archives(facts.archives[:ARCHIVES_UNFOLDED], text)]
    older = facts.archives[ARCHIVES_UNFOLDED:]
    if older:
        summary = html.Summary(text("archives_older", number=len(older)))
        shown.append(html.Details([summary, _archives(older, text)]))
    return shown


def _archives(found: list[ArchiveFiles], text: Texts) -> Component:
    columns = ("archive_begun", "archive_span", "archive_rows", "archive_files")
    head = html.Thead(html.Tr([html.Th(text(column), scope="col") for column in columns]))
    body = html.Tbody([_archive(one, columns, text) for one in found])
    return html.Table([html.Caption(text("archives"), className="unseen"), head, body], className="cards")


def _archive(one: ArchiveFiles, columns: tuple[str, ...], text: Texts) -> Component:
    span = "–"
    if one.first_ms is not None and one.last_ms is not None:
        span = f"{text.time(one.first_ms)} – {text.time(one.last_ms)}"
    cells: Children = [span, text.count(one.rows), _files(one.sizes_bytes, text)]
    return html.Tr(
        [
            html.Th(text.time(one.created_ms), scope="row"),
            *(html.Td(cell, **in_column(text(name))) for cell, name in zip(cells, columns[1:], strict=True)),
        ]
    )


def _files(sizes_bytes: dict[str, int | None], text: Texts) -> Component:
    shown: Children = []
    for name, size in sizes_bytes.items():
        kind = name.rpartition(".")[2].upper()
        if size is None:
            shown.append(html.Span(f"{kind}: {text('gone')}", className="gone"))
            continue
        link = html.A(kind, href=f"archives/{name}", download=name, **labelled(text("download", name=name)))
        shown += [link, html.Span(_size(size, text), className="age")]
    return html.Span(shown, className="files")


def _size(size_bytes: int, text: Texts) -> str:
    octet = "o" if text.language == "fr" else "B"
    for prefix, unit in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if size_bytes >= unit:
            return text.measured(round(size_bytes / unit, 1), prefix + octet)
    return text.measured(size_bytes, octet)


def badge(flow: str, label: str) -> Component:
    """Return a state as a word with a colour; the word alone says it too."""
    return html.Span(label, className=f"badge {flow}")
