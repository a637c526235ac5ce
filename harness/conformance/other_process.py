"""What another process does with a fitted method: it imports nothing but what the method needs."""

import pickle
from pathlib import Path


def answer(path: str) -> None:
    """Reads a pickled pair of a fitted method and images, and puts the pickled list of predictions in its place."""
    file = Path(path)
    method, images = pickle.loads(file.read_bytes())
    found = method.predict_many(images) if method.transductive else map(method.predict, images)
    file.write_bytes(pickle.dumps(list(found)))
