"""Reasons in French: each sentence that a job can say, and none that nobody says any more."""

import re
from pathlib import Path

import pytest

from bridge.alarms.words import Words
from bridge.forward.answers import Answer, judge
from bridge.forward.pace import Health, Pace, Stage
from bridge.ingest.lookout import Bridges, look
from bridge.reasons import _FRENCH, reason_in
from bridge.settings import BridgeSettings
from mqtt_client.settings import load
from mqtt_client.topics import Topics
from tests.processes import free_port

ROOT = Path(__file__).parent.parent.parent
URL = "http://localhost:5000/data"


@pytest.mark.parametrize(
    ("english", "french"),
    [
        (
            f"the server is down: connection refused at {URL}",
            f"le serveur ne répond pas : connexion refusée, à {URL}",
        ),
        (f"no answer within 10 s at {URL}", f"pas de réponse en 10 s, à {URL}"),
        (
            f"404 Not Found: no such page (check SERVER_URL) at {URL}",
            f"404 Not Found: no such page (vérifiez SERVER_URL), à {URL}",
        ),
        (
            "the server does not take what attic, barn and 2 more sent; it is tried again",
            "le serveur ne prend pas ce qu'envoient attic, barn et 2 autres ; nouvel essai en cours",
        ),
        (
            "the server does not take what attic sent; it is tried again",
            "le serveur ne prend pas ce qu'envoie attic ; nouvel essai en cours",
        ),
        ("the broker refuses the connection: Not authorized", "le broker refuse la connexion : compte refusé"),
        ("the broker at localhost:1883 does not answer", "le broker localhost:1883 ne répond pas"),
        (
            "cannot clean up: No such file or directory ('data/backup'); nothing is lost, the next clean-up goes on",
            "impossible de nettoyer : fichier ou dossier absent ('data/backup') ; "
            "rien n'est perdu, le prochain nettoyage continue",
        ),
        (
            "archive failed: cannot archive to 'a': No space left on device; nothing is lost, the next pass goes on",
            "l'archivage a échoué : impossible d'archiver dans 'a' : plus de place sur le disque ; "
            "rien n'est perdu, le prochain passage continue",
        ),
        ("something that the server said", "something that the server said"),
        ("", ""),
    ],
)
def test_a_reason_is_said_in_french_and_what_others_said_stays(english: str, french: str) -> None:
    assert reason_in("fr", english) == french
    assert reason_in("en", english) == english


def test_what_the_forwarder_says_of_a_server_that_is_not_there_is_known() -> None:
    pace = Pace(URL, 20)
    pace.node(1).name = "kitchen"
    verdict = judge(Answer(trouble="connection refused", sent=False), unknown_before=False, expect=None)

    pace.failed(1, verdict, Stage.HEAD, [1])

    assert pace.health is Health.DOWN
    assert reason_in("fr", pace.reason) == f"le serveur ne répond pas : connexion refusée, à {URL}"
    assert reason_in("fr", pace.reason) in Words("fr").server(pace.reason)


def test_what_ingest_says_of_a_broker_that_is_not_there_is_known() -> None:
    port = free_port()
    settings = load(BridgeSettings, {"MQTT_HOST": "127.0.0.1", "MQTT_PORT": str(port)})

    found = look(settings, Topics(), Bridges("store", None))

    said = reason_in("fr", f"the broker at 127.0.0.1:{port} {found}")
    assert said == f"le broker 127.0.0.1:{port} est injoignable : connexion refusée"


def test_every_sentence_is_one_that_the_programs_say() -> None:
    sources = [*(ROOT / "bridge").rglob("*.py"), *(ROOT / "mqtt_client").rglob("*.py")]
    said = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "reasons.py")

    parts = [part for english in _FRENCH for part in re.split(r"\{\w+\}", english)]
    pieces = {part.removeprefix(" more").strip(" ,.:;()") for part in parts}

    assert {piece for piece in pieces if piece not in said} == {f"{task} failed" for task in ("archive", "cleanup")}
