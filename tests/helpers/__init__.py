"""What test files share: toy components, made-up entry points, whole runs, stand-ins for devices.

toys.py                components and data of every kind, for tests of the core
entry_points.py        entry points that no distribution has; a registry of the toys
networks.py            a network of toys
training.py            a training of toys without a recipe
runs.py                a recipe of toys, and runs of it in this process or in others
streams.py             what `soundbench stream` is called with, and what it prints
clip_tables.py         tables of given or drawn clips
stores.py              what a store is made of
observers.py           one observer, attached to a run that is none
html.py                a page in HTML as a browser reads it
pages.py               the code blocks of pages, and a folder in which they run
chords.py              sounds of several labels, their manifest and a recipe
contract_suite.py      what the contract suite says of a component
launched.py            what launched processes do
disk.py                a disk with so much room
fake_sounddevice.py    a microphone without a device
macls_reference.py     run by a Python that has macls
"""

from __future__ import annotations

from pathlib import Path

# On the path of a process that a test starts and that imports helpers.
TESTS = Path(__file__).parents[1]
