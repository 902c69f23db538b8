"""Decode media of strangers in a process of their own, which has limits of time and memory and can be replaced.

``decode`` in ``process.py`` is the way in; ``child.py`` is what runs in the other process. ``pictures.py`` and ``sound.py``
decode. Nothing here imports torch, so that a new process starts in a fraction of a second.
"""
