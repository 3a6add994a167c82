"""Silencing: silos that are kept from answering, as by someone who cuts their line; beside another attack, in a mix."""

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation


def forge(situation: Situation) -> Forgery:
    """No answer in any exchange: attack="inverse_gradient:4,silencing:4" leaves 4 attackers among 4 fewer honest.

    The silos it names would be honest if they answered; an experiment counts them among its attackers all the same.
    """
    return Forgery(situation.update, situation.loss, silent=True)


ATTACK = Attack("silencing", "answers nothing: honest silos cut off, for a mix of attacks", "this project", forge=forge)
