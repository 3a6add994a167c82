"""A ClientApp in Lightning, trained by Adam."""

import logging
import warnings

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from shares import BATCH, CLIENTS, share
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

app = ClientApp()
for name in ("pytorch_lightning", "lightning.pytorch"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Reader(lightning.LightningModule):
    """64 pixels through one hidden layer to ten digits."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, index):
        images, digits = batch
        loss = F.cross_entropy(self.layers(images), digits)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.005)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains for three epochs."""
    images, digits = map(torch.from_numpy, share(context.node_config["partition-id"]))
    model = Reader()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    torch.manual_seed(message.content["config"]["server-round"])
    loader = DataLoader(TensorDataset(images, digits), batch_size=BATCH, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning would have set otherwise
        trainer.fit(model, loader)
    metrics = MetricRecord({"train_loss": float(trainer.callback_metrics["train_loss"]), "num-examples": len(digits)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def initial() -> ArrayRecord:
    """The model to begin with."""
    torch.manual_seed(0)
    return ArrayRecord(Reader().state_dict())


def accuracy(arrays: ArrayRecord) -> float:
    """On the images that no client has."""
    images, digits = map(torch.from_numpy, share(CLIENTS))
    model = Reader()
    model.load_state_dict(arrays.to_torch_state_dict())
    with torch.no_grad():
        return (model.layers(images).argmax(1) == digits).float().mean().item()
