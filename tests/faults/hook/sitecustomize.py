"""Runs at the start of every Python program of the harness, and of no other: this folder is on its PYTHONPATH.

It puts on what the harness asks for by environment: a wall clock that can be
moved, the record of what was taken, and one deliberate break.
"""

import os

if "FAULTS_FOR" in os.environ:
    from tests.faults import breaks, clocks, ledger

    program = os.environ["FAULTS_FOR"]
    if "FAULTS_CLOCK" in os.environ:
        clocks.wear(os.environ["FAULTS_CLOCK"])
    if program == "node":
        ledger.keep()
    if "FAULTS_BREAK" in os.environ:
        breaks.wear(os.environ["FAULTS_BREAK"], program)
