"""Sensors of the kernel as they stand in sysfs, made of plain files."""

import shutil
from pathlib import Path


class SysfsDevice:
    """A folder with one file for each attribute; a sensor is unplugged with its folder."""

    def __init__(self, folder: Path, **attributes: object) -> None:
        self.folder = folder
        self._attributes = attributes
        self.plug_in()

    def plug_in(self) -> None:
        """Let the kernel find it (again)."""
        beside = self.folder.with_name(f".{self.folder.name.replace(':', '-')}")
        beside.mkdir(parents=True)
        for name, value in self._attributes.items():
            (beside / name).write_text(f"{value}\n", encoding="utf-8")
        beside.rename(self.folder)

    def unplug(self) -> None:
        """Let the kernel lose it, all at once."""
        gone = self.folder.with_name(".gone")
        self.folder.rename(gone)
        shutil.rmtree(gone)

    def set(self, name: str, value: object) -> None:
        """Let it measure something else."""
        beside = self.folder / ".beside"
        beside.write_text(f"{value}\n", encoding="utf-8")
        beside.replace(self.folder / name)


def thermometer(devices: Path, name: str, milli: int, **answer: str) -> SysfsDevice:
    """Return a DS18B20 that measures this many thousandths of a degree."""
    return SysfsDevice(devices / name, w1_slave=ds18b20_answer(milli, **answer), name=name)


def ds18b20_answer(milli: int, *, crc: str = "YES", scratchpad: str = "72 01 4b 46 7f ff 0e 10 57") -> str:
    """Return what the kernel says of it."""
    return f"{scratchpad} : crc={scratchpad[-2:]} {crc}\n{scratchpad} t={milli}"
