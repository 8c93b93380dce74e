"""What the store knows: whether it can be read, and what the jobs last said of themselves."""

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.errors import StoreBusy, StoreUnusable
from bridge.settings import BridgeSettings
from bridge.store.database import now_ms
from bridge.store.jobs import JobState, job_name, reported
from bridge.store.peek import peek
from mqtt_client.errors import TryLater
from mqtt_client.probe.finding import Finding, fail, ok, warn

FRESH_S = 20.0
"""A job reports every few seconds while it runs."""


@dataclass(frozen=True)
class Records:
    """What was read."""

    findings: list[Finding]
    store_id: str | None = None
    forward: JobState | None = None
    """The forwarder's own words, where they are fresh."""


def read(settings: BridgeSettings) -> Records:
    """Read the store without writing to it."""
    try:
        store = peek(settings.store_url)
        if store is None:
            return Records([ok("store", "none yet: `mqtt-bridge run` makes it")])
        try:
            jobs = reported(store)
        finally:
            store.close()
    except (StoreUnusable, StoreBusy, TryLater) as exc:
        advice = "start `mqtt-bridge run` of this release, which brings its tables up to date, or restore a backup"
        return Records([fail("store", str(exc), advice)])
    names = {job: job_name(job, settings.bridge_id, settings.bridge_share_group) for job in ("ingest", "forward")}
    fresh = {job: jobs[name] for job, name in names.items() if name in jobs and _is_fresh(jobs[name])}
    findings = [ok("store", f"id {store.id}, of this release"), *_jobs(fresh)]
    return Records(findings, store.id, fresh.get("forward"))


def _is_fresh(job: JobState) -> bool:
    return now_ms() - job.at_ms < FRESH_S * 1000 and job.word != "stopped"


def _jobs(fresh: dict[str, JobState]) -> Iterator[Finding]:
    ingest = fresh.get("ingest")
    if ingest is None:
        yield warn("bridge", "it does not run here", "start `mqtt-bridge run`")
    elif ingest.word == "ok":
        yield ok("bridge", "it runs, with its session at the broker")
    else:
        yield fail("bridge", f"ingest {ingest.word}: {ingest.state.get('reason', '')}", "see the findings below")
