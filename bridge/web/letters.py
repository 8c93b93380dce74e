"""Dead letters on the page: shown whole to who may look, decided about by who has the password."""

from dash import dcc, html
from dash.development.base_component import Component

from bridge import dead_letters
from bridge.dead_letter_decisions import retry
from bridge.dead_letters import DeadLetter
from bridge.settings import BridgeSettings
from bridge.store.database import Store
from bridge.web.facts import Facts
from bridge.web.texts import Texts
from bridge.web.views import Children, labelled, prose
from mqtt_client.errors import SensorBridgeError
from mqtt_client.logs import escape

PAYLOAD_SHOWN = 4000


def letters(facts: Facts, text: Texts, *, may_decide: bool) -> Children:
    """Return the list of letters, each with its payload and, where one may decide, its two buttons."""
    if not facts.letters:
        return [html.P(text("letters_none"), className="empty")]
    shown: Children = [html.P(text("letters_intro"), className="help")]
    if not may_decide:
        shown.append(html.P(prose(text("letters_read_only")), className="help"))
    shown.append(html.Ul([_letter(letter, text, may_decide) for letter in facts.letters], className="letters"))
    more = facts.status.waiting.dead_letters - len(facts.letters)
    if more > 0:
        shown.append(html.P(prose(text("letters_more", number=more)), className="help"))
    return shown


def name_of(letter: DeadLetter) -> str:
    """Return what a letter is called: its reading's id, else its topic, else its number."""
    return escape(letter.identity or letter.topic or f"#{letter.id}")


def _letter(letter: DeadLetter, text: Texts, may_decide: bool) -> Component:
    payload = letter.payload[:PAYLOAD_SHOWN].decode("utf-8", "backslashreplace")
    answer = f"HTTP {letter.status} {letter.body or ''}" if letter.status is not None else ""
    details = [html.Summary(text("payload")), html.Pre(escape(payload))]
    if answer:
        details.append(html.Pre(escape(answer[:PAYLOAD_SHOWN])))
    parts: Children = [
        html.Div(
            [
                html.Strong(name_of(letter)),
                html.Span(escape(letter.reason[:500]), className="reason"),
                html.Span(text.time(letter.at_ms), className="age"),
            ]
        ),
        html.Details(details),
    ]
    if may_decide:
        parts.append(_buttons(letter, text))
    return html.Li(parts, id=f"letter-{letter.id}")


def _buttons(letter: DeadLetter, text: Texts) -> Component:
    what = name_of(letter)
    retry_button = html.Button(
        text("retry"),
        id={"type": "retry", "letter": letter.id},
        className="button",
        **labelled(text("retry_of", what=what)),
    )
    drop_button = html.Button(text("drop"), className="button quiet", **labelled(text("drop_of", what=what)))
    sure = dcc.ConfirmDialogProvider(
        drop_button, id={"type": "drop", "letter": letter.id}, message=text("drop_sure", what=what)
    )
    return html.Div([retry_button, sure], className="decide")


def decide(settings: BridgeSettings, store: Store, decision: str, letter_id: int, text: Texts) -> str:
    """Carry out ``retry`` or ``drop`` and return what to tell the operator."""
    try:
        letter = dead_letters.find(store, letter_id)
        what = name_of(letter)
        if decision == "drop":
            dead_letters.drop(store, [letter_id])
            return text("dropped", what=what)
        outcome = retry(settings, store, letter)
    except SensorBridgeError as exc:
        return text("not_retried", what=f"#{letter_id}", reason=escape(text.reason(str(exc))))
    if outcome.taken:
        return text("retried", what=what)
    return text("not_retried", what=what, reason=escape(outcome.text))
