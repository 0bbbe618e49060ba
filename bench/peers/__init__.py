"""Other servers of models, each in a virtual environment of its own: `python -m bench.peers install`."""
