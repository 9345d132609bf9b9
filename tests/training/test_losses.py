"""Losses by hand; what is not known teaches nothing."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.agcm.losses import (
    AUS_OF_EXPRESSION,
    LossWeights,
    Targets,
    attention_loss,
    concept_loss,
    expression_loss,
    expression_maps,
    landmark_loss,
    map_loss,
    score_loss,
    total_loss,
)
from training.agcm.system import Output
from training.concepts import EXPRESSIONS, NAMES

NAN = float("nan")
few = settings(max_examples=30, deadline=None)


def test_expression_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    votes = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    by_hand = (-(0.5 * math.log(0.5) + 0.5 * math.log(0.25)) - math.log(0.8)) / 2
    assert float(expression_loss(logits, votes)) == pytest.approx(by_hand, rel=1e-5)


def test_concept_by_hand() -> None:
    """A certain target costs -log p; a soft one what is above its own entropy; a weight is a share of the mean."""
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # p = 1/2, 3/4
    targets = torch.tensor([[1.0, 0.5], [0.0, 0.3]])
    weights = torch.tensor([[1.0, 0.5], [2.0, 0.0]])
    soft = -0.5 * math.log(0.75) - 0.5 * math.log(0.25) - math.log(2.0)
    by_hand = (math.log(2.0) + 0.5 * soft + 2 * math.log(2.0)) / 3.5
    assert float(concept_loss(logits, targets, weights)) == pytest.approx(by_hand, rel=1e-5)


def test_map_by_hand() -> None:
    maps = torch.tensor([[[[0.5, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])
    regions = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    targets, weights = torch.tensor([[0.5, 1.0]]), torch.ones(1, 2)
    by_hand = (0.5 * (1 - math.sqrt(0.5)) + 1.0 * 0.0) / 1.5
    assert float(map_loss(maps, regions, targets, weights)) == pytest.approx(by_hand, rel=1e-5)


def test_score_by_hand() -> None:
    """y 0 1, t 0 0.5, equal weights: squared error 1/8; CCC = 2 * 1/8 / (1/4 + 1/16 + 1/16) = 2/3."""
    loss = score_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]), torch.ones(2))
    assert float(loss) == pytest.approx(4 / 8 + 0.25 / 3, rel=1e-5)


def test_score_weights_are_repeats() -> None:
    score, target = torch.tensor([0.1, 0.9, 0.3]), torch.tensor([0.0, 1.0, 0.5])
    repeated = score_loss(score[[0, 1, 1, 2]], target[[0, 1, 1, 2]], torch.ones(4))
    torch.testing.assert_close(score_loss(score, target, torch.tensor([1.0, 2.0, 1.0])), repeated)


@few
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=8).filter(lambda t: len(set(t)) > 1))
def test_a_better_score_costs_less_and_a_perfect_one_nothing(target: list[float]) -> None:
    truth, wrong = torch.tensor(target), torch.randn(len(target), generator=torch.Generator().manual_seed(0))
    weights = torch.rand(len(target), generator=torch.Generator().manual_seed(1)) + 0.1
    costs = [float(score_loss(truth + share * wrong, truth, weights)) for share in (0.0, 0.1, 0.3, 1.0)]
    assert costs[0] == pytest.approx(0.0, abs=1e-6)
    assert costs == sorted(costs)
    assert costs[1] > 0


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_concept_loss_is_least_and_zero_at_the_target(targets: list[float]) -> None:
    truth = torch.tensor([targets])
    best = torch.logit(truth, eps=1e-6)
    ones = torch.ones_like(truth)
    assert float(concept_loss(best, truth, ones)) == pytest.approx(0.0, abs=1e-4)
    assert float(concept_loss(best + 0.5, truth, ones)) >= float(concept_loss(best, truth, ones)) - 1e-6


def slope(loss: Tensor, of: Tensor) -> Tensor:
    """d loss / d of."""
    (found,) = torch.autograd.grad(loss, of)
    assert found.isfinite().all()
    return found


def test_rows_without_votes_teach_nothing() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    votes = torch.full((3, 4), NAN)
    assert not slope(expression_loss(logits, votes), logits).any()
    votes[1] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    found = slope(expression_loss(logits, votes), logits)
    assert not found[[0, 2]].any()
    assert found[1].all()
    torch.testing.assert_close(expression_loss(logits, votes), expression_loss(logits[1:2], votes[1:2]))


def test_concepts_of_weight_zero_teach_nothing() -> None:
    logits, targets = torch.randn(3, 4, requires_grad=True), torch.rand(3, 4)
    weights = torch.ones(3, 4)
    weights[0], weights[1, 2] = 0.0, 0.0
    found = slope(concept_loss(logits, targets, weights), logits)
    assert not found[weights == 0].any()
    assert found[weights > 0].all()
    assert not slope(concept_loss(logits, targets, torch.zeros(3, 4)), logits).any()


def test_maps_of_inactive_placeless_or_unknown_concepts_are_free() -> None:
    maps = torch.rand(2, 4, 3, 3, requires_grad=True)
    regions = torch.rand(4, 3, 3)
    regions[1] = 0.0
    targets, weights = torch.ones(2, 4), torch.ones(2, 4)
    targets[:, 2], weights[:, 3] = 0.0, 0.0
    found = slope(map_loss(maps, regions, targets, weights), maps)
    assert found[:, 0].all()
    assert not found[:, 1:].any()
    assert not slope(map_loss(maps, torch.zeros(4, 3, 3), targets, weights), maps).any()


@pytest.mark.parametrize("known", [0, 1])
def test_fewer_than_two_scored_rows_teach_nothing(known: int) -> None:
    score, target = torch.randn(4, requires_grad=True), torch.full((4,), NAN)
    target[:known] = 1.0
    loss = score_loss(score, target, torch.ones(4))
    assert float(loss.detach()) == 0.0
    assert not slope(loss, score).any()


def test_rows_without_a_score_do_not_count_among_the_others() -> None:
    score = torch.randn(5, requires_grad=True)
    target = torch.tensor([0.0, NAN, 1.0, NAN, 0.5])
    weights = torch.tensor([1.0, 100.0, 2.0, 0.0, 1.0])
    found = slope(score_loss(score, target, weights), score)
    assert not found[[1, 3]].any()
    assert found[[0, 2, 4]].all()
    rows = [0, 2, 4]
    torch.testing.assert_close(score_loss(score, target, weights), score_loss(score[rows], target[rows], weights[rows]))


def output(batch: int, concepts: int, expressions: int) -> Output:
    maps = torch.rand(batch, concepts, 2, 2).flatten(2).softmax(-1).unflatten(-1, (2, 2))
    return Output(torch.randn(batch, 1 + expressions), torch.randn(batch, concepts), maps=maps)


def test_the_total_is_the_weighted_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    out = output(6, 4, 3)
    votes = torch.rand(6, 3).softmax(-1)
    targets = Targets(votes, torch.rand(6, 4), torch.ones(6, 4), torch.rand(6), torch.ones(6), torch.rand(6, 5, 2))
    regions = torch.rand(4, 2, 2)
    loss, terms = total_loss(out, targets, regions, LossWeights(1.0, 2.0, 3.0, 4.0))
    assert sum(terms.values()) == pytest.approx(float(loss), rel=1e-5)
    assert terms["expression"] == pytest.approx(float(expression_loss(out.heads[:, 1:], votes)), rel=1e-5)
    assert terms["concept"] == pytest.approx(2 * float(concept_loss(out.logits, *targets[1:3])), rel=1e-5)
    assert terms["map"] == pytest.approx(3 * float(map_loss(out.maps, regions, *targets[1:3])), rel=1e-5)
    assert terms["score"] == pytest.approx(4 * float(score_loss(out.heads[:, 0], *targets[3:5])), rel=1e-5)


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    nothing = Targets(
        torch.full((2, 3), NAN), torch.zeros(2, 4), torch.zeros(2, 4), torch.full((2,), NAN), torch.zeros(2),
        torch.full((2, 5, 2), NAN),
    )  # fmt: skip
    loss, terms = total_loss(output(2, 4, 3), nothing, torch.rand(4, 2, 2), LossWeights(1, 1, 1, 1))
    assert float(loss) == 0.0
    assert set(terms.values()) == {0.0}


def test_a_system_has_the_terms_of_what_it_says() -> None:
    votes, zeros = torch.eye(3)[:2], torch.zeros(2, 4)
    targets = Targets(votes, zeros, zeros, torch.tensor([0.0, 1.0]), torch.ones(2), torch.full((2, 5, 2), NAN))
    heads = torch.randn(2, 4)
    loss, terms = total_loss(Output(heads), targets, torch.rand(4, 2, 2), LossWeights(score=1.0))
    assert set(terms) == {"expression", "score"}
    _, more = total_loss(
        Output(heads, own_loss=torch.tensor(0.5)), targets, torch.rand(4, 2, 2), LossWeights(score=1.0)
    )
    assert sum(more.values()) == pytest.approx(float(loss) + 0.5, rel=1e-5)


def test_attention_is_led_to_the_action_units_of_the_expression() -> None:
    """Perfect where the attention is the AU map; faces without one (neutral, contempt, no votes) do not count."""
    regions = torch.rand(len(NAMES), 5, 5)
    maps = expression_maps(regions)
    empty = {name for name, each in zip(EXPRESSIONS, maps, strict=True) if not each.any()}
    assert empty == {"neutral", "contempt"} == set(EXPRESSIONS) - set(AUS_OF_EXPRESSION)
    votes = torch.eye(8)
    perfect = maps.clone()
    perfect[0] = perfect[7] = torch.rand(5, 5)
    every = torch.ones(8, dtype=torch.bool)
    assert float(attention_loss(perfect * 3.0, votes, regions, every)) == pytest.approx(0.0, abs=1e-6)
    assert float(attention_loss(perfect.flip(0), votes, regions, every)) > 1e-3
    attention = torch.rand(8, 5, 5, requires_grad=True)
    votes[1] = NAN
    seen = every.clone()
    seen[4] = False
    found = slope(attention_loss(attention, votes, regions, seen), attention)
    assert [bool(each.any()) for each in found] == [False, False, True, True, False, True, True, False]
    assert float(attention_loss(attention, torch.full((8, 8), NAN), regions, every).detach()) == 0.0


def test_a_face_that_the_teacher_did_not_find_has_no_part_in_the_attention() -> None:
    regions, attention = torch.rand(len(NAMES), 5, 5), torch.rand(2, 5, 5, requires_grad=True)
    votes = torch.eye(8)[[1, 2]]
    trust = torch.ones(2, len(NAMES))
    trust[1] = 0.0
    nowhere = torch.full((2, 5, 2), NAN)
    targets = Targets(votes, torch.zeros(2, len(NAMES)), trust, torch.full((2,), NAN), torch.ones(2), nowhere)
    out = Output(torch.zeros(2, 9), attention=attention)
    loss, _ = total_loss(out, targets, regions, LossWeights(expression=0.0, attention=1.0))
    assert [bool(each.any()) for each in slope(loss, attention)] == [True, False]


def test_landmarks_are_off_by_their_distance_and_unknown_ones_do_not_count() -> None:
    target = torch.rand(3, 5, 2)
    points = (target + torch.tensor([0.1, 0.3])).requires_grad_()
    target[1] = NAN
    loss = landmark_loss(points, target)
    assert float(loss.detach()) == pytest.approx(0.2, rel=1e-5)
    assert [bool(each.any()) for each in slope(loss, points)] == [True, False, True]
    assert float(landmark_loss(points, torch.full((3, 5, 2), NAN)).detach()) == 0.0
