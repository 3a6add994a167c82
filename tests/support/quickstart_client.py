"""A ClientApp as Flower's PyTorch quickstart shapes one, on scikit-learn's digits: nothing in it knows of FedLAW."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.datasets import load_digits
from torch import nn

app = ClientApp()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.norm = nn.BatchNorm1d(32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def load_data(partition_id: int, num_partitions: int):
    digits = load_digits()
    x = torch.tensor(digits.data / 16.0, dtype=torch.float32)[partition_id::num_partitions]
    y = torch.tensor(digits.target)[partition_id::num_partitions]
    cut = int(0.8 * len(x))
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the model on local data; the reply is the trained weights, num-examples and train_loss."""
    torch.manual_seed(int(context.node_config["partition-id"]))
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    (x, y), _ = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    optimizer = torch.optim.SGD(model.parameters(), lr=msg.content["config"]["lr"])
    running_loss = 0.0
    model.train()
    for _ in range(context.run_config["local-epochs"]):
        for batch in torch.randperm(len(x)).split(16):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(batch)
    train_loss = running_loss / (len(x) * context.run_config["local-epochs"])
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"train_loss": train_loss, "num-examples": len(x)}),
        }
    )
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    model.eval()
    _, (x, y) = load_data(context.node_config["partition-id"], context.node_config["num-partitions"])
    with torch.no_grad():
        outputs = model(x)
    metrics = {
        "eval_loss": float(nn.functional.cross_entropy(outputs, y)),
        "eval_acc": float((outputs.argmax(1) == y).float().mean()),
        "num-examples": len(x),
    }
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)
