"""The paper's numbers as data: as printed, and consistent with what its prose says of them."""

from __future__ import annotations

import pytest

from nmtr.experiments.paper import CUTOFFS, is_papers, paper, table2, table3
from nmtr.experiments.plan import PAPERS


def test_table_ii_has_the_papers_twelve_models_at_four_cutoffs() -> None:
    assert set(paper()["table2"]) == set(PAPERS)
    assert len(PAPERS) == 12
    assert {len(each) for each in paper()["table2"].values()} == {2 * len(CUTOFFS)}


@pytest.mark.parametrize(
    ("row", "metric", "value"),
    [
        ("nmtr-neumf", "hr@100", 0.3193),
        ("nmtr-mlp", "ndcg@100", 0.0762),
        ("nmtr-gmf", "hr@80", 0.2721),
        ("neumf", "ndcg@50", 0.0573),
        ("mc-bpr", "ndcg@200", 0.0786),
        ("bpr", "hr@50", 0.1199),
    ],
)
def test_table_ii_as_printed(row: str, metric: str, value: float) -> None:
    assert table2(row, metric) == value


def test_there_is_no_number_for_what_the_paper_did_not_run() -> None:
    assert table2("ease", "hr@100") is None
    assert table2("bpr", "hr@10") is None
    assert table2("bpr", "recall@100") is None
    assert table3("bpr", "upper", "hr@100") is None


def test_hit_ratios_grow_with_k_and_the_known_misprint_is_the_only_one() -> None:
    falls = []
    for row, values in paper()["table2"].items():
        assert list(values[::2]) == sorted(values[::2])
        if list(values[1::2]) != sorted(values[1::2]):
            falls.append(row)
    assert falls == ["mlp"]  # NDCG@80 below NDCG@50, which no ranking gives


def test_the_prose_s_shares_follow_from_the_tables() -> None:
    def over(a: str, b: str, metric: str) -> float:
        one, other = table2(a, metric), table2(b, metric)
        assert one
        assert other
        return one / other - 1

    known = paper()["claims"]
    assert over("nmtr-neumf", "neumf", "hr@100") == pytest.approx(known["hr_over_neumf"], abs=5e-5)
    assert over("nmtr-mlp", "neumf", "ndcg@100") == pytest.approx(
        known["ndcg_over_neumf"], abs=5e-5
    )
    share = over("nmtr-neumf", "mc-neumf", "hr@100")
    assert share == pytest.approx(known["hr_over_mc_neumf"], abs=5e-5)


def test_table_iii_as_printed() -> None:
    assert table3("nmtr-gmf", "upper", "hr@100") == 0.2979
    assert table3("nmtr-mlp", "half of lower", "ndcg@100") == 0.0725
    assert table3("nmtr-neumf", "lower", "hr@100") == 0.3147
    assert table3("nmtr-neumf", "half of upper", "ndcg@100") == 0.0676


def test_the_papers_data_are_known_by_their_size() -> None:
    assert is_papers(21_716, 7_977)
    assert not is_papers(300, 150)
