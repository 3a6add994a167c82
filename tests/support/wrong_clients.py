"""A client that keeps the protocol, and one ClientApp for every way in which the tests know it can be broken."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

SHAPES = {"weight": (3, 4), "bias": (3,)}


def _records():
    """60 records of four numbers around three centres, and which centre each is of."""
    rng = np.random.default_rng(7)
    labels = np.arange(60) % 3
    return rng.normal(size=(3, 4))[labels] + rng.normal(scale=0.7, size=(60, 4)), labels


INPUTS, LABELS = _records()


def initial() -> ArrayRecord:
    """A model to begin with, float32."""
    rng = np.random.default_rng(3)
    return ArrayRecord(
        {key: Array(rng.normal(scale=0.3, size=shape).astype(np.float32)) for key, shape in SHAPES.items()}
    )


# -- the honest client, in pieces -----------------------------------------------------------------------------------


def received(message):
    """The message's model in float64. Raises ValueError for another model than this client's."""
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    if {key: array.shape for key, array in arrays.items()} != SHAPES:
        raise ValueError("another model than weight (3, 4) and bias (3,)")
    return {key: array.astype(np.float64) for key, array in arrays.items()}


def loss_and_gradient(model, inputs=INPUTS, labels=LABELS):
    """Softmax regression's mean cross-entropy, and its gradient."""
    z = inputs @ model["weight"].T + model["bias"]
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    error = (np.exp(log_p) - np.eye(3)[labels]) / len(labels)
    return float(-log_p[np.arange(len(labels)), labels].mean()), {"weight": error.T @ inputs, "bias": error.sum(0)}


def plain(model, gradient, lr, memory):
    """A step of plain SGD."""
    return {key: model[key] - lr * gradient[key] for key in model}


def trained(message, model, step=plain, memory=None, lr=None):
    """The model after the local epochs that the message asks for."""
    config = message.content["config"]
    lr = config["lr"] if lr is None else lr
    rng = np.random.default_rng([config["server-round"], config["exchange"]])
    memory = {} if memory is None else memory
    for _ in range(config["local-epochs"]):
        order = rng.permutation(len(LABELS))
        for batch in np.split(order, range(config["batch-size"], len(order), config["batch-size"])):
            _, gradient = loss_and_gradient(model, INPUTS[batch], LABELS[batch])
            model = step(model, gradient, lr, memory)
    return model


def content_of(message, model, loss, wants_update=None):
    """The reply's records."""
    content = RecordDict({"metrics": MetricRecord({"loss": loss, "num-examples": len(LABELS)})})
    if wants_update or (wants_update is None and message.content["config"]["reply"] != "loss"):
        content["arrays"] = ArrayRecord({key: Array(value.astype(np.float32)) for key, value in model.items()})
    return content


def honest(message, context=None):
    """The right reply."""
    model = received(message)
    return Message(
        content_of(message, trained(message, model), loss_and_gradient(model)[0]),
        reply_to=message,
    )


def app_of(train, query=None) -> ClientApp:
    """A ClientApp that trains so."""
    app = ClientApp()
    app.train()(train)
    if query is not None:
        app.query()(query)
    return app


GOOD = app_of(honest)


# -- the faults -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A client that is wrong in one way: the check that must say so, and words that its finding must have."""

    app: Callable[[], ClientApp]
    check: str
    words: str


FAULTS: dict[str, Fault] = {}


def fault(check: str, words: str):
    """Registers a train function as a fault."""

    def register(train):
        FAULTS[train.__name__] = Fault(lambda: app_of(train), check, words)
        return train

    return register


def in_reply(check: str, words: str):
    """Registers a change of the honest reply's content as a fault; where there are no arrays it has none to change."""

    def register(change):
        def train(message, context):
            reply = honest(message)
            if "arrays" in reply.content:
                change(reply.content, message)
            return reply

        FAULTS[change.__name__] = Fault(lambda: app_of(train), check, words)
        return change

    return register


def replace(content, **arrays):
    content["arrays"] = ArrayRecord({**content["arrays"], **{key: Array(value) for key, value in arrays.items()}})


# what is not answered at all


@fault("answers", "it raised ZeroDivisionError: integer division or modulo by zero; the error is the client's own")
def raises(message, context):
    return 1 // 0


@fault("answers", "returned NoneType where a Message is expected")
def returns_nothing(message, context):
    honest(message)


@fault("answers", "raised SystemExit")
def ends_the_process(message, context):
    raise SystemExit(1)


@fault("answers", "'numpy.float32'>` was passed.; Flower's records take Python's own numbers alone: write float(loss)")
def loss_of_numpy(message, context):
    return Message(content_of(message, received(message), np.float32(1)), reply_to=message)


@fault("answers", "'torch.Tensor'>` was passed.; Flower's records take Python's own numbers alone: write float(loss)")
def loss_of_torch(message, context):
    import torch

    return Message(content_of(message, received(message), torch.tensor(1.0)), reply_to=message)


@fault("answers", "BFloat16; NumPy and Flower have no bfloat16: reply tensor.float()")
def weights_in_bfloat16(message, context):
    import torch

    net = torch.nn.Linear(4, 3).bfloat16()
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict())}), reply_to=message)


@fault("exchange_2", "raised RuntimeError: only one exchange a round")
def raises_on_exchange_2(message, context):
    if message.content["config"]["exchange"] == 2:
        raise RuntimeError("only one exchange a round")
    return honest(message)


@fault("addressed", "reply_to=message")
def replies_to_nobody(message, context):
    return Message(honest(message).content, dst_node_id=1, message_type="train")


# the arrays


@in_reply("records", "0 ArrayRecords where one is expected")
def no_array_record(content, message):
    del content["arrays"]


@in_reply("records", "2 ArrayRecords where one is expected")
def two_array_records(content, message):
    content["gradient"] = ArrayRecord({"weight": Array(np.zeros((3, 4), np.float32))})


@in_reply("arrays", "array 'bias' is missing (1 of 2 are)")
def missing_key(content, message):
    content["arrays"] = ArrayRecord({"weight": content["arrays"]["weight"]})


@in_reply("arrays", "array 'velocity' is not one of the model's")
def extra_array(content, message):
    replace(content, velocity=np.zeros(3, np.float32))


@in_reply("arrays", "array 'bias' is missing (2 of 2 are)")
def keys_of_its_own(content, message):
    content["arrays"] = ArrayRecord(content["arrays"].to_numpy_ndarrays())


@in_reply(
    "arrays", "the keys sent begin with '_orig_mod.', as torch.compile has them; send model._orig_mod.state_dict()"
)
def keys_of_a_compiled_model(content, message):
    content["arrays"] = ArrayRecord({f"_orig_mod.{key}": array for key, array in content["arrays"].items()})


@in_reply("arrays", "array 'weight' has shape (4, 3), the model's is (3, 4)")
def wrong_shape_replied(content, message):
    replace(content, weight=np.ascontiguousarray(content["arrays"]["weight"].numpy().T))


@in_reply("arrays", "array 'bias' has dtype float64, the model's is float32")
def wrong_dtype(content, message):
    replace(content, bias=content["arrays"]["bias"].numpy().astype(np.float64))


@in_reply("arrays", "array 'bias' has a value that is not finite")
def nan_weights(content, message):
    replace(content, bias=np.array([0.0, np.nan, 0.0], np.float32))


@in_reply("arrays", "serialised as 'raw', not 'numpy.ndarray'")
def another_serialisation(content, message):
    value = content["arrays"]["bias"].numpy()
    content["arrays"]["bias"] = Array(dtype="float32", shape=(3,), stype="raw", data=value.tobytes())


@in_reply("arrays", "does not start as np.save writes it")
def bytes_without_a_header(content, message):
    value = content["arrays"]["bias"].numpy()
    content["arrays"]["bias"] = Array("float32", (3,), "numpy.ndarray", value.tobytes() + b"\0" * 64)


# the metrics


@in_reply("records", "2 MetricRecords where one is expected")
def two_metric_records(content, message):
    content["more"] = MetricRecord({"accuracy": 0.5})


@in_reply("loss", "no number under the loss key 'loss' (metrics: 'num-examples', 'train_loss')")
def loss_under_another_key(content, message):
    content["metrics"] = MetricRecord({"train_loss": 1.0, "num-examples": 60})


@in_reply("loss", "the loss is nan")
def loss_nan(content, message):
    content["metrics"]["loss"] = float("nan")


@in_reply("loss", "the loss -1 is below the floor 0")
def loss_negative(content, message):
    content["metrics"]["loss"] = -1.0


@in_reply("num_examples", "no number under 'num-examples'")
def no_num_examples(content, message):
    del content["metrics"]["num-examples"]


@in_reply("num_examples", "num-examples is -60")
def negative_num_examples(content, message):
    content["metrics"]["num-examples"] = -60


@fault("loss_only", "reply=loss gets 0.5 and reply=update")
def another_loss_when_alone(message, context):
    reply = honest(message)
    if "arrays" not in reply.content:
        reply.content["metrics"]["loss"] = 0.5
    return reply


@fault("loss_only", "reply=loss gets no usable loss: it raised NotImplementedError")
def no_loss_alone(message, context):
    if message.content["config"]["reply"] == "loss":
        raise NotImplementedError
    return honest(message)


@fault("descends", "whatever model is sent")
def the_same_loss_always(message, context):
    reply = honest(message)
    reply.content["metrics"]["loss"] = 1.0
    return reply


# what is replied is not the trained weights


@fault("weights", "it looks like gradients")
def gradients(message, context):
    model = received(message)
    loss, gradient = loss_and_gradient(model)
    return Message(content_of(message, gradient, loss), reply_to=message)


def _change(message, sign):
    model = received(message)
    after = trained(message, model)
    change = {key: sign * (after[key] - model[key]) for key in model}
    return Message(content_of(message, change, loss_and_gradient(model)[0]), reply_to=message)


@fault("weights", "it looks like the change of the weights")
def deltas(message, context):
    return _change(message, 1)


@fault("weights", "it looks like the change of the weights")
def deltas_of_the_server(message, context):
    return _change(message, -1)


@fault("trains", "the reply is the model as it came")
def echo(message, context):
    model = received(message)
    return Message(content_of(message, model, loss_and_gradient(model)[0]), reply_to=message)


@fault("untouched", "array 'weight' of the message itself was changed")
def changes_the_message(message, context):
    reply = honest(message)
    message.content["arrays"]["weight"] = Array(np.zeros((3, 4), np.float32))
    return reply


# what is done is not plain SGD with the step lr


def _with_step(step, lr=None):
    def train(message, context):
        model = received(message)
        after = trained(message, model, step, lr=lr(message) if lr else None)
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return train


def with_momentum(model, gradient, lr, memory):
    """Polyak's momentum, as torch.optim.SGD(momentum=0.9)."""
    velocity = {key: 0.9 * memory.get(key, 0.0) + gradient[key] for key in model}
    memory.update(velocity)
    return plain(model, velocity, lr, memory)


def adam(model, gradient, lr, memory):
    """Adam (Kingma and Ba 2015, Algorithm 1)."""
    t = memory["t"] = memory.get("t", 0) + 1
    after = {}
    for key, g in gradient.items():
        m, v = (memory.get((name, key), 0.0) for name in "mv")
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        memory["m", key], memory["v", key] = m, v
        after[key] = model[key] - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return after


def uphill(model, gradient, lr, memory):
    """Ascent."""
    return plain(model, gradient, -lr, memory)


FAULTS |= {
    "own_step": Fault(lambda: app_of(_with_step(plain, lambda message: 0.05)), "step", "10 times is what plain SGD"),
    "step_squared": Fault(
        lambda: app_of(_with_step(plain, lambda message: message.content["config"]["lr"] ** 2)), "step", "100 times"
    ),
    "momentum_within": Fault(lambda: app_of(_with_step(with_momentum)), "momentum", "2.9 times as far as one"),
    "adam": Fault(lambda: app_of(_with_step(adam)), "adaptive", "as with Adam, RMSprop or signs"),
    "goes_uphill": Fault(lambda: app_of(_with_step(uphill)), "descends", "the loss rises where the reply goes"),
    "step_falls_by_round": Fault(
        lambda: app_of(
            _with_step(plain, lambda m: m.content["config"]["lr"] / m.content["config"]["server-round"] ** 0.5)
        ),
        "rounds",
        "in round 1000 the reply moves",
    ),
}


# what depends on more than the message


def momentum_across_rounds() -> ClientApp:
    """The optimiser's velocity lives in the module, and so from message to message."""
    memory: dict = {}

    def train(message, context):
        model = received(message)
        after = trained(message, model, with_momentum, memory)
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


def continues_its_own_model() -> ClientApp:
    """Starts half way between the model received and the one it trained last, if that was another."""
    last: dict = {}

    def train(message, context):
        model = received(message)
        begin = model if last.get("from") in (None, model["bias"].tobytes()) else last["model"]
        after = trained(message, {key: (model[key] + begin[key]) / 2 for key in model})
        last.update({"from": model["bias"].tobytes(), "model": after})
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


def warms_up() -> ClientApp:
    """Takes a shorter step in the first message that it ever gets."""
    seen: list = []

    def train(message, context):
        model = received(message)
        seen.append(message)
        after = trained(message, model, lr=message.content["config"]["lr"] * (0.5 if len(seen) == 1 else 1))
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


def mostly_noise() -> ClientApp:
    """Adds noise as long as the update, new each time."""
    rng = np.random.default_rng(0)

    def train(message, context):
        model = received(message)
        after = trained(message, model)
        size = np.sqrt(sum(((after[key] - model[key]) ** 2).sum() for key in model) / 15)
        after = {key: value + rng.normal(scale=size, size=value.shape) for key, value in after.items()}
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


FAULTS |= {
    "momentum_across_rounds": Fault(momentum_across_rounds, "memory", "drift or settle"),
    "continues_its_own_model": Fault(continues_its_own_model, "memory", "after a message about another model"),
    "warms_up": Fault(warms_up, "memory", "drift or settle"),
    "mostly_noise": Fault(mostly_noise, "repeats", "more chance than data"),
}


def reviewed(reply, loss, gradient):
    """The reply with a review in it."""
    reply.content["review"] = ArrayRecord({key: Array(value.astype(np.float32)) for key, value in gradient.items()})
    reply.content["metrics"]["balanced-loss"] = loss
    return reply


def reviewing(message, context=None):
    """No fault: honest, with a review where one is asked for. The records are of three classes, 20 each."""
    reply = honest(message)
    if message.content["config"]["reply"] == "review":
        reviewed(reply, *loss_and_gradient(received(message)))
    return reply


@fault("review", "a step along the review lowers 'balanced-loss'")
def reviews_the_other_way(message, context):
    reply = honest(message)
    if message.content["config"]["reply"] == "review":
        loss, gradient = loss_and_gradient(received(message))
        reviewed(reply, loss, {key: -value for key, value in gradient.items()})
    return reply


@fault("review", "review: array 'bias' is missing (1 of 2 are)")
def half_a_review(message, context):
    reply = reviewing(message)
    if "review" in reply.content:
        del reply.content["review"]["bias"]
    return reply


@fault("review", "no number under the loss key 'balanced-loss'")
def no_balanced_loss(message, context):
    reply = reviewing(message)
    reply.content["metrics"].pop("balanced-loss", None)
    return reply


@fault("review", "reply=review gets no usable reply: it raised KeyError")
def knows_no_reviews(message, context):
    {"update": 0, "loss": 1}[message.content["config"]["reply"]]
    return honest(message)


def unseeded(seed: int) -> ClientApp:
    """No fault: batches in an order that is new each time."""
    rng = np.random.default_rng(seed)

    def train(message, context):
        model = received(message)
        shuffled = RecordDict(dict(message.content))
        shuffled["config"] = ConfigRecord({**message.content["config"], "server-round": int(rng.integers(10**6))})
        after = trained(type("Shuffled", (), {"content": shuffled}), model)
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


def personal() -> ClientApp:
    """No fault, and worth a note: starts half way to what it kept in context.state."""

    def train(message, context):
        model = received(message)
        kept = {key: value.numpy() for key, value in context.state.get("own", {}).items()} or model
        after = trained(message, {key: (model[key] + kept[key]) / 2 for key in model})
        context.state["own"] = ArrayRecord({key: Array(value) for key, value in after.items()})
        return Message(content_of(message, after, loss_and_gradient(model)[0]), reply_to=message)

    return app_of(train)


# what is done with messages that are not as expected


@fault("unknown_key", "an unknown config key gets no usable reply: it raised TypeError")
def refuses_unknown_keys(message, context):
    known = {"server-round", "exchange", "lr", "local-epochs", "batch-size", "reply"}
    if set(message.content["config"]) - known:
        raise TypeError("unexpected keyword")
    return honest(message)


@fault("ledger_head", "a message with the head of the server's ledger gets no usable reply: it raised ValueError")
def refuses_the_heads_of_a_ledger(message, context):
    if "ledger-head" in message.content["config"]:
        raise ValueError("who sends this?")
    return honest(message)


def _with_model(message, model):
    return Message(content_of(message, trained(message, model), loss_and_gradient(model)[0]), reply_to=message)


@fault("no_arrays", "a message without arrays gets a reply as if nothing were the matter")
def begins_by_itself(message, context):
    if "arrays" not in message.content:
        return _with_model(message, {key: np.zeros(shape) for key, shape in SHAPES.items()})
    return honest(message)


@fault("missing_array", "a model without 'bias' gets a reply as if nothing were the matter")
def makes_up_what_is_missing(message, context):
    arrays = {key: array.numpy().astype(np.float64) for key, array in message.content["arrays"].items()}
    if set(arrays) == {"weight"}:
        return _with_model(message, {**arrays, "bias": np.zeros(3)})
    return honest(message)


@fault("missing_array", "a model without 'bias' hangs the client: it gave no answer within 1 s")
def hangs_on_a_missing_array(message, context):
    while "arrays" in message.content and "bias" not in message.content["arrays"]:
        time.sleep(0.05)
    return honest(message)


@fault("wrong_shape", "'bias' in shape (1,) where it is (3,) gets a reply as if nothing were the matter")
def broadcasts(message, context):
    arrays = {key: array.numpy().astype(np.float64) for key, array in message.content["arrays"].items()}
    if arrays.get("bias", np.zeros(3)).shape == (1,):
        return _with_model(message, {"weight": arrays["weight"], "bias": np.broadcast_to(arrays["bias"], (3,))})
    return honest(message)


@fault("nan_model", "a model of NaN gets finite weights and a finite loss")
def repairs_nan(message, context):
    return _with_model(message, {key: np.nan_to_num(value) for key, value in received(message).items()})


# evaluate and query


def evaluates_to_nothing() -> ClientApp:
    """Answers evaluate with its training set's size in a config record."""
    app = app_of(honest)

    @app.evaluate()
    def evaluate(message, context):
        return Message(RecordDict({"figures": ConfigRecord({"num-examples": 60})}), reply_to=message)

    return app


FAULTS["evaluates_to_nothing"] = Fault(evaluates_to_nothing, "evaluate", "0 MetricRecords where one is expected")


def _describing(**told) -> ClientApp:
    def query(message, context):
        return Message(RecordDict({"description": ConfigRecord(told)}), reply_to=message)

    return app_of(honest, query)


FAULTS |= {
    "description_is_no_json": Fault(
        lambda: _describing(task="softmax", description="age, weight"), "query", "nothing the server can compare"
    ),
    "description_of_numbers": Fault(
        lambda: _describing(task="softmax", description=json.dumps({"age": 3})), "query", "a JSON object of texts"
    ),
    "no_description": Fault(lambda: _describing(task="softmax"), "query", "nothing the server can compare"),
}


GRADIENTS = FAULTS["gradients"].app()
