"""The ClientApp: trains the model it receives on its own digits and replies the trained weights."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_app.task import Net, load_data
from digits_app.task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the model on local data."""
    partition_id = context.node_config["partition-id"]
    torch.manual_seed(partition_id)
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    images, labels = load_data(partition_id, context.node_config["num-partitions"])

    lr = msg.content["config"]["lr"]
    train_loss = train_fn(model, images, labels, context.run_config["local-epochs"], lr)

    metrics = {"train_loss": train_loss, "num-examples": len(labels)}
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)
