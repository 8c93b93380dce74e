"""What the page asks for while it is open: the state at each tick, the charts at each beat, and decisions.

A callback waits for all others that write its inputs, so what is drawn hangs on nothing that is refreshed.
"""

from collections.abc import Callable
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update
from dash.exceptions import PreventUpdate

from bridge.local_times import parse_rfc3339
from bridge.quantity_names import quantity_name
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.web import charts, page, views
from bridge.web.facts import Facts, Line, Watch
from bridge.web.letters import decide, letters
from bridge.web.lines import Chart, read_chart
from bridge.web.selection import Selection, select, zoom_of
from bridge.web.texts import Texts
from mqtt_client.reading import UNITS

TextOfRequest = Callable[[], Texts]


def register(app: Dash, settings: BridgeSettings, store: Store, watch: Watch, text_of_request: TextOfRequest) -> None:
    """Give the page its life; decisions exist only where a password protects them."""
    _refresh(app, settings, watch, text_of_request)
    _go_on(app)
    _choose(app, watch)
    _zoom(app)
    _draw(app, store, watch, text_of_request)
    if settings.web_password is not None:
        _decide(app, settings, store, watch, text_of_request)


def _refresh(app: Dash, settings: BridgeSettings, watch: Watch, text_of_request: TextOfRequest) -> None:
    may_decide, has_rules = settings.web_password is not None, settings.alarm_rules is not None

    @app.callback(
        Output("headline", "children"),
        Output("notices", "children"),
        Output("stale", "className"),
        Output("way-strip", "children"),
        Output("nodes-table", "children"),
        Output("alarms-list", "children"),
        Output("letters-list", "children"),
        Output("archives-list", "children"),
        Output("chart-boxes", "children"),
        Output("node-choice", "children"),
        Output("shown", "data"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
        State("nodes-chosen", "data"),
        prevent_initial_call=True,
        running=[(Output("tick", "disabled"), True, False)],  # a slow answer is waited for, not overtaken
    )
    def refresh(tick: int, shown: dict[str, str], chosen: list[str] | None) -> tuple[Any, ...]:
        facts, text = watch.look(), text_of_request()
        now_shown = page.signatures(facts, text)

        def changed(name: str, make: Callable[[], object]) -> object:
            return no_update if shown.get(name) == now_shown[name] else make()

        return (
            changed("headline", lambda: views.headline(facts, text)),
            changed("notices", lambda: views.notices(facts, text)),
            f"notice still stale {'odd' if tick % 2 else 'even'}",
            views.way(facts, text),
            views.nodes(facts, text),
            views.alarms(facts, text, has_rules=has_rules),
            changed("letters", lambda: letters(facts, text, may_decide=may_decide)),
            changed("archives", lambda: views.archives(facts, text)),
            changed("lines", lambda: page.boxes(facts, text)),
            changed("nodes", lambda: page.node_choice(facts, text, chosen or [])),
            now_shown,
        )


def _go_on(app: Dash) -> None:
    """Set the clocks going again: an answer that never came, since the bridge was started anew, left them stopped."""

    @app.callback(
        Output("tick", "disabled"),
        Output("beat", "disabled"),
        Input("pulse", "n_intervals"),
        prevent_initial_call=True,
    )
    def go_on(_: int) -> tuple[bool, bool]:
        return False, False


def _choose(app: Dash, watch: Watch) -> None:
    @app.callback(
        Output("range", "data"), Input({"type": "range", "range": ALL}, "n_clicks"), prevent_initial_call=True
    )
    def choose_range(_: object) -> str:
        return str(_clicked("range"))

    @app.callback(
        Output({"type": "range", "range": ALL}, "aria-pressed"), Output("own-dates", "hidden"), Input("range", "data")
    )
    def show_range(range_name: str | None) -> tuple[list[str], bool]:
        shown = range_name or page.first_range(watch.look())
        names = [output["id"]["range"] for output in ctx.outputs_list[0]]
        return ["true" if name == shown else "false" for name in names], shown != page.OWN_RANGE

    @app.callback(
        Output("nodes-chosen", "data"),
        Input({"type": "node", "node": ALL}, "n_clicks"),
        State("nodes-chosen", "data"),
        prevent_initial_call=True,
    )
    def choose_node(_: object, chosen: list[str] | None) -> list[str]:
        node = str(_clicked("node"))
        if node == page.ALL_NODES:
            return []
        return sorted(set(chosen or []) ^ {node})

    @app.callback(Output({"type": "node", "node": ALL}, "aria-pressed"), Input("nodes-chosen", "data"))
    def show_nodes(chosen: list[str] | None) -> list[str]:
        down = set(chosen or [page.ALL_NODES])
        return ["true" if output["id"]["node"] in down else "false" for output in ctx.outputs_list]


def _clicked(key: str) -> object:
    """Return the key of the button that was clicked.

    Raises:
        PreventUpdate: none was; buttons have only appeared.
    """
    if not isinstance(ctx.triggered_id, dict) or not ctx.triggered[0]["value"]:
        raise PreventUpdate
    return ctx.triggered_id[key]


def _zoom(app: Dash) -> None:
    @app.callback(
        Output("zoom", "data"),
        Output("unzoom", "hidden"),
        Input({"type": "chart", "quantity": ALL}, "relayoutData"),
        Input("unzoom", "n_clicks"),
        Input("range", "data"),
        Input("from", "value"),
        Input("to", "value"),
        prevent_initial_call=True,
    )
    def zoom(*_: object) -> tuple[list[str] | None, bool]:
        if not isinstance(ctx.triggered_id, dict):
            return None, True
        found = zoom_of(ctx.triggered[0]["value"])
        if isinstance(found, bool):
            raise PreventUpdate
        return found, found is None


def _draw(app: Dash, store: Store, watch: Watch, text_of_request: TextOfRequest) -> None:
    @app.callback(
        Output({"type": "chart", "quantity": ALL}, "figure"),
        Output({"type": "figures", "quantity": ALL}, "children"),
        Output({"type": "step", "quantity": ALL}, "children"),
        Output("drawn", "data"),
        Input("beat", "n_intervals"),
        Input("range", "data"),
        Input("from", "value"),
        Input("to", "value"),
        Input("nodes-chosen", "data"),
        Input("zoom", "data"),
        State("drawn", "data"),
        running=[(Output("beat", "disabled"), True, False)],
    )
    def draw(
        beat: int | None,
        range_name: str | None,
        first: str | None,
        last: str | None,
        chosen: list[str] | None,
        zoomed: list[str] | None,
        drawn: str | None,
    ) -> tuple[list[Any], list[Any], list[Any], str]:
        facts, text = watch.look(), text_of_request()
        selection = select(range_name or page.first_range(facts), first, last, zoomed, facts.at_ms, text.zone)
        wanted = [output["id"]["quantity"] for output in ctx.outputs_list[0]]
        now_drawn = f"{selection.key} {chosen} {wanted}"
        if now_drawn == drawn and not selection.is_due(beat or 0):
            raise PreventUpdate
        found = [_chart(store, facts, text, quantity, chosen, selection) for quantity in wanted]
        return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found], now_drawn


def _chart(
    store: Store, facts: Facts, text: Texts, quantity: str, chosen: list[str] | None, selection: Selection
) -> tuple[Any, Any, str]:
    lines = [line for line in facts.lines if line.quantity == quantity and (not chosen or line.node in chosen)]
    last = _last_readings(facts, lines) if selection.is_live else {}
    chart = read_chart(store, lines, selection.from_ms, selection.to_ms, facts.at_ms, last)
    figure = charts.figure(
        chart, quantity, page.places_of(facts), (selection.from_ms, selection.to_ms), text, selection.key
    )
    if not chart.drawn:
        return figure, text("chart_empty"), text("chart_empty")
    return figure, _figures(chart, quantity, text), text("by_minute" if chart.step_ms == 60_000 else "by_hour")


def _last_readings(facts: Facts, lines: list[Line]) -> dict[int, tuple[int, float]]:
    """Return the newest reading of each line: the node's own note is ahead of the roll-ups by a moment."""
    found = {
        line.id: (line.last_ms, line.last_value) for line in lines if line.last_ms and line.last_value is not None
    }
    nodes = {node.node: node for node in facts.status.nodes}
    for line in lines:
        node = nodes.get(line.node)
        value = node.last_values.get(line.quantity) if node and node.last_sensor == line.sensor else None
        if node is not None and node.last_time is not None and value is not None:
            found[line.id] = (parse_rfc3339(node.last_time), value)
    return found


def _figures(chart: Chart, quantity: str, text: Texts) -> object:
    unit = UNITS.get(quantity) or ""
    rows = [
        (
            name,
            *(text.measured(round(value, 2), unit) for value in (one.low, one.mean, one.high)),
            text.count(one.count),
        )
        for name, one in zip(charts.line_names(chart.drawn), chart.drawn, strict=True)
    ]
    return page.figures_table(quantity_name(quantity, text.language), rows, text)


def _decide(app: Dash, settings: BridgeSettings, store: Store, watch: Watch, text_of_request: TextOfRequest) -> None:
    @app.callback(
        Output("decision", "children"),
        Output("letters-list", "children", allow_duplicate=True),
        Input({"type": "retry", "letter": ALL}, "n_clicks"),
        Input({"type": "drop", "letter": ALL}, "submit_n_clicks"),
        prevent_initial_call=True,
    )
    def decided(*_: object) -> tuple[str, Any]:
        letter_id, text = int(str(_clicked("letter"))), text_of_request()
        told = decide(settings, store, str(ctx.triggered_id["type"]), letter_id, text)
        return told, letters(watch.look(anew=True), text, may_decide=True)
