"""The strategy against a literal float64 Algorithm 2, in g form with the explicit product G'(G~ w)."""

from itertools import combinations

import numpy as np
import pytest
from flwr.app import ConfigRecord
from scripted import ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.types import RoundEnded
from fedlaw_flwr.strategy import FedLAW

D, N, B, ALPHA, BETA, ROUNDS = 7, 12, 3, 0.05, 0.3, 5
GUARDS_OFF = {"clip": "none", "loss_filter": False, "loss_floor": "none"}


class Quadratics:
    """Silo i's loss is a quadratic about its own centre; attackers reply the opposite and say they are better off."""

    def __init__(self, attackers=()):
        rng = np.random.default_rng(3)
        self.centres = rng.normal(size=(N, D)) * 0.3 + np.linspace(-1, 1, D)
        self.curves = [np.diag(rng.uniform(0.5, 1.5, D)) for _ in range(N)]
        self.attackers = set(attackers)

    def gradient(self, i, theta, exchange):
        pull = self.curves[i] @ (theta - self.centres[i])
        # The two exchanges differ as two draws of mini-batches would.
        pull = pull + 0.02 * np.sin(np.arange(D) * (i + 1) + exchange)
        return -3.0 * pull if i in self.attackers else pull

    def loss(self, i, theta):
        gap = theta - self.centres[i]
        value = 0.5 * float(gap @ self.curves[i] @ gap) + 0.1
        return 0.2 * value if i in self.attackers else value

    def silo(self, i):
        def answer(received):
            theta = np.concatenate([received.arrays["a"].ravel(), received.arrays["b"]])
            loss = self.loss(i, theta)
            if received.reply == "loss":
                return reply(None, loss, partition=i)
            psi = theta - ALPHA * self.gradient(i, theta, received.exchange)
            return reply({"a": psi[:4].reshape(2, 2), "b": psi[4:]}, loss, partition=i)

        return answer


def project_by_all_supports(h, s, t):
    """The nearest point of D(s, t), by bisection for tau on every support of size s."""
    best = None
    for support in combinations(range(len(h)), s):
        part = h[list(support)]
        low, high = part.min() - t, part.max()
        for _ in range(200):
            tau = 0.5 * (low + high)
            low, high = (tau, high) if np.clip(part - tau, 0, t).sum() >= 1 else (low, tau)
        w = np.zeros(len(h))
        w[list(support)] = np.clip(part - 0.5 * (low + high), 0, t)
        distance = ((w - h) ** 2).sum()
        if best is None or distance < best[0] - 1e-13:
            best = (distance, w)
    return best[1]


def algorithm_2(world, theta, s, t, weight_rounds, variant="fedlaw"):
    """The paper's server, to the letter: explicit G, G~ and their n x n product."""
    w, history = np.full(N, 1 / N), []
    for k in range(1, ROUNDS + 1):
        G = np.column_stack([world.gradient(i, theta, 1) for i in range(N)])
        if k <= weight_rounds:
            trial = theta - ALPHA * G @ w
            G2 = np.column_stack([world.gradient(i, trial, 2) for i in range(N)])
            f2 = np.array([world.loss(i, trial) for i in range(N)])
            if variant == "bsum":
                from scipy.optimize import linprog

                w = linprog(f2, A_eq=np.ones((1, N)), b_eq=[1.0], bounds=[(0, t)] * N).x
            else:
                w = project_by_all_supports(w + ALPHA * BETA * G.T @ (G2 @ w) - BETA * f2, s, t)
        theta = theta - ALPHA * G @ w
        history.append((w.copy(), theta.copy()))
    return history


def run(world, grid=None, **settings):
    """The strategy's weights and models, round by round."""
    events, thetas = [], []
    strategy = FedLAW(
        **{"max_byzantine": B, "lr": ALPHA, "beta": BETA, "num_silos": N, **settings}, on_event=events.append
    )
    grid = grid or ScriptedGrid([world.silo(i) for i in range(N)])

    def keep(server_round, arrays):
        thetas.append(np.concatenate([array.numpy().ravel() for array in arrays.values()]))

    with stopped_clock():
        strategy.start(
            grid,
            record_of({"a": np.zeros((2, 2)), "b": np.zeros(3)}),
            num_rounds=ROUNDS,
            timeout=60,
            train_config=ConfigRecord({}),
            evaluate_fn=keep,
        )
    rounds = [event for event in events if isinstance(event, RoundEnded)]
    return [np.array(event.weights) for event in rounds], thetas[1:], events


@pytest.mark.parametrize("loss_only_replies", [True, False])
@pytest.mark.parametrize("attackers", [(), (2, 5, 9)])
@pytest.mark.parametrize("weight_rounds", [3, 5])
def test_five_rounds_agree_with_the_paper_to_1e_10(loss_only_replies, attackers, weight_rounds):
    world, s, t = Quadratics(attackers), N - B, 12 / (11 * (N - B))
    expected = algorithm_2(world, np.zeros(D), s, t, weight_rounds)
    weights, thetas, _ = run(world, loss_only_replies=loss_only_replies, weight_rounds=weight_rounds, **GUARDS_OFF)
    for (w, theta), got_w, got_theta in zip(expected, weights, thetas, strict=True):
        np.testing.assert_allclose(got_w, w, atol=1e-10)
        np.testing.assert_allclose(got_theta, theta, atol=1e-10)


def test_the_oracle_is_no_special_case_where_all_weights_are_alike():
    world = Quadratics((2, 5, 9))
    weights, _, _ = run(world, weight_rounds=5, **GUARDS_OFF)
    assert len({round(float(w), 6) for w in weights[0]}) > 2


def test_given_s_and_t_are_used_as_they_are():
    world, s, t = Quadratics((2, 5, 9)), 6, 0.31
    expected = algorithm_2(world, np.zeros(D), s, t, 5)
    weights, _, _ = run(world, s=s, t=t, weight_rounds=5, **GUARDS_OFF)
    np.testing.assert_allclose(weights[-1], expected[-1][0], atol=1e-10)


def test_bsum_agrees_with_a_linear_programme():
    world, s, t = Quadratics((2,)), N - B, 12 / (11 * (N - B))
    expected = algorithm_2(world, np.zeros(D), s, t, ROUNDS, variant="bsum")
    weights, thetas, _ = run(world, variant="bsum", weight_rounds=ROUNDS, **GUARDS_OFF)
    for (w, theta), got_w, got_theta in zip(expected, weights, thetas, strict=True):
        np.testing.assert_allclose(got_w, w, atol=1e-9)
        np.testing.assert_allclose(got_theta, theta, atol=1e-9)


def test_with_guards_on_loss_only_replies_change_no_bit_of_the_run():
    world = Quadratics((2, 5, 9))
    without, with_updates = (run(world, loss_only_replies=only, weight_rounds=4) for only in (True, False))
    np.testing.assert_array_equal(without[0], with_updates[0])
    np.testing.assert_array_equal(without[1], with_updates[1])
    rounds = [[event for event in events if isinstance(event, RoundEnded)] for _, _, events in (without, with_updates)]
    assert sum(e.bytes_up for e in rounds[0]) < sum(e.bytes_up for e in rounds[1])


def test_the_order_in_which_replies_arrive_changes_no_bit_of_the_run():
    world = Quadratics((2, 5, 9))
    scripts = [world.silo(i) for i in range(N)]
    rng = np.random.default_rng(0)
    shuffled = ScriptedGrid(scripts, late=lambda received: int(rng.integers(0, 9)))
    # Node ids are random in a simulation: other ids, another order of nodes, the same silos.
    order = list(rng.permutation(N))
    renamed = ScriptedGrid([scripts[i] for i in order], node_ids=[100 + int(7 * i % 13) for i in range(N)])
    straight = run(world, weight_rounds=4)
    for grid in (shuffled, renamed):
        weights, thetas, _ = run(world, grid, weight_rounds=4)
        np.testing.assert_array_equal(weights, straight[0])
        np.testing.assert_array_equal(thetas, straight[1])


def test_exchange_2_asks_for_updates_only_from_silos_with_weight_and_there_is_none_once_weights_are_frozen():
    world = Quadratics((2, 5, 9))
    grid = ScriptedGrid([world.silo(i) for i in range(N)])
    weights, _, _ = run(world, grid, weight_rounds=3)
    assert set(grid.asked(1, 2).values()) == {"update"}  # w_0 is uniform
    carrying = {i for i in range(N) if weights[0][i] > 0}
    assert {i for i, asked in grid.asked(2, 2).items() if asked == "update"} == carrying
    assert set(grid.asked(2, 2)) == set(range(N))
    assert set(grid.asked(2, 1).values()) == {"update"}
    assert grid.asked(4, 2) == {} and len(grid.asked(4, 1)) == N
