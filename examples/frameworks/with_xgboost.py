"""Trees of XGBoost, as Flower sends them: bytes. FedLAW refuses them before it sends anything."""

import numpy as np
import xgboost
from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp
from shares import CLIENTS, share

app = ClientApp()


def initial() -> ArrayRecord:
    """A booster of one round, as Flower's strategies for XGBoost take it."""
    images, digits = share(CLIENTS)
    settings = {"objective": "multi:softprob", "num_class": 10}
    booster = xgboost.train(settings, xgboost.DMatrix(images, label=digits), num_boost_round=1)
    return ArrayRecord([np.frombuffer(booster.save_raw("json"), np.uint8)])
