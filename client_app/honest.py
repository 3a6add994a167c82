"""The honest silo: receives a model, runs Algorithm 1 on its own examples, replies its trained weights and its loss."""

from functools import lru_cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from client_app.wire import Asked, received_arrays
from fedlaw_flwr import seeding
from fedlaw_flwr.settings import Settings
from fedlaw_flwr.tasks import load_task
from fedlaw_flwr.tasks.base import Examples, Task
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.training import evaluate, local_round

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One exchange, honestly: see `respond`."""
    settings, silo = settings_of(context), silo_of(context)
    task = task_of(settings)
    return respond(message, settings, silo, task, task.load_train(silo))


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Loss and metrics of the received model on this silo's own training examples, for strategies that ask."""
    settings, silo = settings_of(context), silo_of(context)
    task = task_of(settings)
    examples = task.load_train(silo)
    model = received_model(message, settings, task)
    metrics = MetricRecord({**evaluate(model, task, examples), "num-examples": len(examples)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def respond(message: Message, settings: Settings, silo: int, task: Task, examples: Examples) -> Message:
    """The reply of one exchange: psi_i and f_i, or f_i alone where the server asks no more.

    Of the message's config, `lr`, `local-epochs` and `batch-size` override the settings; `server-round` and
    `exchange` name the random stream of the batches; `reply` is "update" (also if absent) or "loss".
    """
    # One thread in a silo: with more, sums depend on how many there are, and silos on one machine fight for them.
    torch.set_num_threads(1)
    asked = Asked.of(message, settings)
    model = received_model(message, settings, task)
    loss = local_round(
        model,
        task,
        examples,
        lr=asked.lr,
        epochs=asked.local_epochs,
        batch_size=asked.batch_size,
        rng=seeding.generator(settings.seed, "batches", silo, asked.server_round, asked.exchange),
        loss_at=settings.loss_at,
        wants_update=asked.wants_update,
    )
    content = RecordDict(
        {
            "metrics": MetricRecord({"loss": loss, "num-examples": len(examples)}),
            "silo": ConfigRecord({"partition-id": silo}),
        }
    )
    if asked.wants_update:
        content["arrays"] = ArrayRecord({key: value.cpu() for key, value in model.state_dict().items()})
    return Message(content, reply_to=message)


def received_model(message: Message, settings: Settings, task: Task) -> torch.nn.Module:
    """The task's model with the received state dict in it, on the silo's device."""
    model = task.build_model(settings.seed)
    model.load_state_dict(received_arrays(message).to_torch_state_dict(), strict=True)
    return model.to(device(settings.device))


@lru_cache(maxsize=4)
def _settings(items: tuple[tuple[str, object], ...]) -> Settings:
    return Settings.read(dict(items))


def settings_of(context: Context) -> Settings:
    """The run's settings, read once for as long as this process serves the same run configuration."""
    return _settings(tuple(sorted(context.run_config.items())))


def silo_of(context: Context) -> int:
    """Which partition this silo holds, from its node config."""
    return int(context.node_config["partition-id"])


def task_of(settings: Settings) -> Task:
    """The task this silo learns, with its examples; cached in `load_task`."""
    return load_task(
        settings.task, settings.partition_plan(), settings.seed, data_dir=settings.data_dir, download=settings.download
    )
