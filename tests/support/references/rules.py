"""Every rule in float64 and plain loops, written from its paper's formulas and from nothing else.

Rows are turned into lists of Python floats first, so no NumPy routine, block or dtype is shared with what is tested.
Each function returns a list of floats, the aggregate; the selections return the rows they chose.
"""

import math


def rows_of(updates):
    return [[float(value) for value in row] for row in updates]


def squared_distance(x, y):
    return math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def distance(x, y):
    return math.sqrt(squared_distance(x, y))


def weighted_mean(rows, weights):
    total = math.fsum(weights)
    return [math.fsum(w * row[k] for w, row in zip(weights, rows, strict=True)) / total for k in range(len(rows[0]))]


def mean(updates):
    rows = rows_of(updates)
    return weighted_mean(rows, [1.0] * len(rows))


def ideal(updates, honest):
    return mean([row for row, is_honest in zip(rows_of(updates), honest, strict=True) if is_honest])


def krum_score(rows, i, others, neighbours):
    return math.fsum(sorted(squared_distance(rows[i], rows[j]) for j in others if j != i)[:neighbours])


def krum_choice(updates, f):
    rows = rows_of(updates)
    n = len(rows)
    return min(range(n), key=lambda i: krum_score(rows, i, range(n), n - f - 2))


def krum(updates, f):
    return rows_of(updates)[krum_choice(updates, f)]


def multi_krum_choice(updates, f, m):
    rows = rows_of(updates)
    n = len(rows)
    return sorted(range(n), key=lambda i: krum_score(rows, i, range(n), n - f - 2))[:m]


def multi_krum(updates, f, m):
    rows = rows_of(updates)
    return mean([rows[i] for i in multi_krum_choice(updates, f, m)])


def trimmed_mean(updates, f):
    rows = rows_of(updates)
    kept = [sorted(column)[f : len(rows) - f] for column in zip(*rows, strict=True)]
    return [math.fsum(values) / len(values) for values in kept]


def coordinate_median(updates):
    rows = rows_of(updates)
    n = len(rows)
    columns = [sorted(column) for column in zip(*rows, strict=True)]
    return [column[n // 2] if n % 2 else (column[n // 2 - 1] + column[n // 2]) / 2 for column in columns]


def bulyan_choice(updates, f, pool=None, inner=None):
    rows = rows_of(updates)
    left = list(range(len(rows)))
    chosen = []
    while len(chosen) < (len(rows) - 2 * f if pool is None else pool):
        neighbours = max(1, len(left) - f - 2) if inner is None else inner
        best = min(left, key=lambda i: krum_score(rows, i, left, neighbours))
        chosen.append(best)
        left.remove(best)
    return chosen


def bulyan(updates, f, pool=None, inner=None, average=None):
    rows = rows_of(updates)
    selected = [rows[i] for i in bulyan_choice(updates, f, pool, inner)]
    beta = max(1, len(selected) - 2 * f) if average is None else average
    result = []
    for column in zip(*selected, strict=True):
        ascending = sorted(column)
        median = ascending[(len(ascending) - 1) // 2]  # a value of the pool, the lower middle of an even number
        nearest = sorted(ascending, key=lambda value: abs(value - median))[:beta]
        result.append(math.fsum(nearest) / beta)
    return result


def cclip(updates, center, tau, iterations):
    rows = rows_of(updates)
    v = [float(value) for value in center]
    for _ in range(iterations):
        step = [0.0] * len(v)
        for row in rows:
            away = distance(row, v)
            factor = 1.0 if away <= tau else tau / away
            step = [s + (x - c) * factor / len(rows) for s, x, c in zip(step, row, v, strict=True)]
        v = [c + s for c, s in zip(v, step, strict=True)]
    return v


def rfa(updates, nu, iterations):
    rows = rows_of(updates)
    z = mean(rows)
    for _ in range(iterations):
        z = weighted_mean(rows, [1.0 / max(nu, distance(row, z)) for row in rows])
    return z


def huber_loss(updates, z, threshold):
    lengths = [distance(row, z) for row in rows_of(updates)]
    return math.fsum(u * u / 2 if u <= threshold else threshold * u - threshold * threshold / 2 for u in lengths)


def bucketing(updates, size, permutation):
    rows = rows_of(updates)
    buckets = [permutation[start : start + size] for start in range(0, len(rows), size)]
    return [mean([rows[i] for i in bucket]) for bucket in buckets]


def nnm(updates, f):
    rows = rows_of(updates)
    n = len(rows)
    nearest = [sorted(range(n), key=lambda j: squared_distance(rows[i], rows[j]))[: n - f] for i in range(n)]
    return [mean([rows[j] for j in group]) for group in nearest]


def caf(updates, f, power_steps=20000):
    """The filter with the d x d covariance formed and its top eigenvector found by the power method."""
    rows = rows_of(updates)
    n, d = len(rows), len(rows[0])
    c = [1.0] * n
    best, least = mean(rows), math.inf
    while math.fsum(c) > n - 2 * f:
        total = math.fsum(c)
        mu = weighted_mean(rows, c)
        away = [[x - m for x, m in zip(row, mu, strict=True)] for row in rows]
        covariance = [
            [math.fsum(w * a[j] * a[k] for w, a in zip(c, away, strict=True)) / total for k in range(d)]
            for j in range(d)
        ]
        v, before = [1.0 + 0.1 * k for k in range(d)], 0.0
        for _ in range(power_steps):
            v = [math.fsum(entry * x for entry, x in zip(line, v, strict=True)) for line in covariance]
            eigenvalue = math.sqrt(math.fsum(x * x for x in v))
            if eigenvalue == 0:
                break
            v = [x / eigenvalue for x in v]
            if abs(eigenvalue - before) < 1e-15 * eigenvalue:
                break
            before = eigenvalue
        if eigenvalue < least:
            best, least = mu, eigenvalue
        t = [math.fsum(a * x for a, x in zip(row, v, strict=True)) ** 2 for row in away]
        largest = max(value for value, w in zip(t, c, strict=True) if w > 0)
        if eigenvalue == 0 or largest == 0:
            break
        c = [w * (1 - value / largest) if w > 0 else 0.0 for w, value in zip(c, t, strict=True)]
    return best
