"""This machine: settings of no use, time zone, folders, file systems, free space, who may read the secrets."""

import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bridge.settings import BridgeSettings
from bridge.store.database import sqlite_path
from mqtt_client.probe.finding import Finding, fail, ok, warn

MOUNTS = Path("/proc/self/mounts")
LITTLE_BYTES = 1024**3
TOO_LITTLE_BYTES = 64 * 1024**2
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.rclone", "davfs"}
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}


def find(settings: BridgeSettings, env_file: Path) -> Iterator[Finding]:
    """Look at this machine, and at what was set for it."""
    yield from (warn("settings", doubt, "set both or neither") for doubt in settings.doubts())
    yield _time_zone(settings)
    store = sqlite_path(settings.store_url)
    folders = {"ARCHIVE_DIRECTORY": settings.archive_directory, "BACKUP_DIRECTORY": settings.backup_directory}
    if store is not None:
        folders = {"STORE_URL": store.parent, **folders}
        yield from _store_file(store)
    for variable, folder in folders.items():
        yield _writable(variable, folder)
    for variables, place in _by_device(folders).items():
        yield _space(variables, place)
    yield from _move(settings)
    yield from _secrets([env_file, settings.mqtt_tls_key])


def _time_zone(settings: BridgeSettings) -> Finding:
    now = datetime.now(UTC).astimezone(settings.timezone)
    told = f"{settings.timezone.key}, where it is {now:%H:%M} ({now:UTC%z})"
    if settings.timezone.key in ("UTC", "Etc/UTC") and not os.environ.get("TIMEZONE"):
        return warn("time zone", told, "set TIMEZONE if people elsewhere read timestamps and archive names")
    return ok("time zone", told)


def _store_file(store: Path) -> Iterator[Finding]:
    kind = file_system(store)
    if kind in NETWORK_FILE_SYSTEMS:
        yield fail(
            "store",
            f"STORE_URL: {store} is on a network file system ({kind}), where SQLite's locks do not hold",
            "put it on a disk of this machine, or use PostgreSQL",
        )
    if kind in MEMORY_FILE_SYSTEMS:
        yield warn("store", f"STORE_URL: {store} is in memory ({kind}) and gone at a restart", "put it on a disk")
    if store.exists() and not os.access(store, os.R_OK | os.W_OK):
        yield fail(
            "store",
            f"STORE_URL: {store} cannot be written by this account ({_owner(store)} owns it)",
            "run the bridge as the account that owns it, or change its owner",
        )


def _writable(variable: str, folder: Path) -> Finding:
    place = _nearest(folder)
    if not place.is_dir():
        return fail("folder", f"{variable}: {place} is no folder", f"set {variable} to a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(
            "folder",
            f"{variable}: {place} cannot be written by this account ({_owner(place)} owns it)",
            f"change its owner, or set {variable}",
        )
    return ok(
        "folder", f"{variable}: {folder} " + ("can be written" if place == folder.absolute() else "will be made")
    )


def _by_device(folders: dict[str, Path]) -> dict[str, Path]:
    """Return one place for each file system, under the names of all variables that lie there."""
    places: dict[int, tuple[list[str], Path]] = {}
    for variable, folder in folders.items():
        place = _nearest(folder)
        places.setdefault(place.stat().st_dev, ([], place))[0].append(variable)
    return {", ".join(variables): place for variables, place in places.values()}


def _space(variables: str, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    told = f"{free / 1024**3:.1f} GiB free for {variables}"
    if free < TOO_LITTLE_BYTES:
        return fail("disk", told, "make room: a full disk stops the bridge, the nodes keep their readings meanwhile")
    if free < LITTLE_BYTES:
        return warn("disk", told, "make room, or set BACKUP_KEEP_DAYS and STORE_KEEP_DAYS lower")
    return ok("disk", told)


def _move(settings: BridgeSettings) -> Iterator[Finding]:
    archives, backup = _nearest(settings.archive_directory), _nearest(settings.backup_directory)
    if archives.stat().st_dev != backup.stat().st_dev:
        yield ok(
            "folder",
            f"BACKUP_DIRECTORY is on another file system ({file_system(backup)}) than ARCHIVE_DIRECTORY: "
            "archives are copied there and then deleted here",
        )
    elif not os.path.ismount(backup) and str(settings.backup_directory.absolute()).startswith(("/mnt/", "/media/")):
        yield warn(
            "folder",
            f"BACKUP_DIRECTORY: nothing is mounted at {settings.backup_directory}",
            "mount it, or archives fill this disk",
        )


def _secrets(files: list[Path | None]) -> Iterator[Finding]:
    for file in files:
        if file is not None and file.is_file() and file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            yield warn("secrets", f"{file} can be read by everybody on this machine", f"chmod 600 {file}")


def file_system(path: Path) -> str:
    """Return the kind of file system that a path lies on, such as ``ext4``; empty where the kernel does not say."""
    try:
        lines = [line.split(" ") for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    place = _nearest(path).resolve()
    found = [
        (len(point), kind)
        for _device, point, kind, *_ in lines
        if place.is_relative_to(point.encode().decode("unicode_escape"))
    ]
    return max(found, default=(0, ""))[1]


def _nearest(path: Path) -> Path:
    """Return the path itself, or the nearest of its parents that is there."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return f"account {path.stat().st_uid}"
