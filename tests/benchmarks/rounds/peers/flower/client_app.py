"""A ClientApp that learns nothing: it returns what it was sent, and noise."""

import random

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.payload import noise

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The payload and noise."""
    marks.hold_if_asked()
    [values] = message.content["arrays"].to_numpy_ndarrays()
    changed = ArrayRecord([values + noise(random.getrandbits(32))])
    metrics = MetricRecord({"num-examples": 32})
    return Message(content=RecordDict({"arrays": changed, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """A fixed score."""
    metrics = MetricRecord({"accuracy": 0.5, "num-examples": 10})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
