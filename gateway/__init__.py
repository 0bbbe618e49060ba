"""The gateway: answers with the champion, writes what challengers will read, takes outcomes.

A newcomer follows a prediction through five files: `routes/predict.py` (HTTP), `wire/own.py` (JSON to columns),
`predictor.py` (the story), `journal/writer.py` (the commit), `shadow.py` (the same chunk, read by challengers).

The contract modules `config`, `errors`, `records`, `chunk` and `journal` are what `retrain` may stand on.
"""
