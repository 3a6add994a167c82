"""The honest silo: receives a model, runs Algorithm 1 on its own examples, replies its trained weights and its loss."""

from functools import lru_cache

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedlaw_flwr.apps.review_mod import add_review
from fedlaw_flwr.apps.wire import Asked, received_arrays
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.tasks.base import Examples, Objective
from fedlaw_flwr.tasks.device import device
from fedlaw_flwr.training.local import Job, Trained, evaluate_classes, local_round

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One exchange, honestly: see `respond`."""
    settings, silo = settings_of(context), silo_of(context)
    task = settings.load_task()
    return respond(message, settings, silo, task, task.load_train(silo))


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Loss and metrics of the received model on this silo's own training examples, for strategies that ask."""
    settings, silo = settings_of(context), silo_of(context)
    task = settings.load_task()
    examples = task.load_train(silo)
    return measured(message, received_model(message, settings, task), task, examples)


def measured(message: Message, model: torch.nn.Module, task: Objective, examples: Examples) -> Message:
    """The reply with the model's metrics on these examples, its accuracy by class, and how many they are."""
    found, classes = evaluate_classes(model, task, examples)
    metrics = MetricRecord({**found, **classes, "num-examples": len(examples)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def respond(
    message: Message,
    settings: Settings,
    silo: int,
    task: Objective,
    examples: Examples,
    measured: Examples | None = None,
) -> Message:
    """The reply of one exchange: psi_i and f_i, or f_i alone where the server asks no more.

    Of the message's config, `lr`, `local-epochs` and `batch-size` override the settings; `server-round` and
    `exchange` name the random stream of the batches; `reply` is "update" (also if absent), "loss", or "review": the
    update, and beside it the review of the received model and its class-balanced loss.

    Args:
        message: What the server sent.
        settings: The run's.
        silo: The silo's number.
        task: What is learned.
        examples: What the silo trains on.
        measured: What f_i is taken on, if not on the examples. Default: the examples.
    """
    # One thread in a silo: with more, sums depend on how many there are, and silos on one machine fight for them.
    torch.set_num_threads(1)
    job = job_of(message, settings, silo, examples, measured=measured)
    return answer(message, job, local_round(received_model(message, settings, task), task, job))


def job_of(
    message: Message,
    settings: Settings,
    silo: int,
    examples: Examples,
    poison: str = "",
    measured: Examples | None = None,
) -> Job:
    """What this message asks of this silo.

    Args:
        message: What the server sent.
        settings: The run's.
        silo: The silo's number.
        examples: What the silo trains on.
        poison: The attack that changed the examples, empty if none did.
        measured: What f_i is taken on, if not on the examples. Default: the examples.
    """
    asked = Asked.of(message, settings)
    return Job(
        silo=silo,
        examples=examples,
        poison=poison,
        seed=settings.seed,
        server_round=asked.server_round,
        exchange=asked.exchange,
        lr=asked.lr,
        epochs=asked.local_epochs,
        batch_size=asked.batch_size,
        loss_at=settings.loss_at,
        wants_update=asked.wants_update,
        measured=measured,
        wants_review=asked.wants_review,
        review_by=settings.review_by,
    )


def answer(message: Message, job: Job, trained: Trained) -> Message:
    """The reply once the job is done."""
    content = RecordDict(
        {
            "metrics": MetricRecord({"loss": trained.loss, "num-examples": len(job.examples)}),
            "silo": ConfigRecord({"partition-id": job.silo}),
        }
    )
    if job.wants_update:
        assert trained.state is not None
        content["arrays"] = ArrayRecord({key: value.cpu() for key, value in trained.state.items()})
    reply = Message(content, reply_to=message)
    if trained.review is not None:
        add_review(reply, trained.review)
    return reply


def received_model(message: Message, settings: Settings, task: Objective) -> torch.nn.Module:
    """The task's model with the received state dict in it, on the silo's device."""
    return model_with(received_arrays(message), settings, task)


def model_with(arrays: ArrayRecord, settings: Settings, task: Objective) -> torch.nn.Module:
    """The task's model with this state dict in it, on the silo's device."""
    model = task.build_model(settings.seed)
    model.load_state_dict(arrays.to_torch_state_dict(), strict=True)
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
