from tests.report.studies import random_model
from unetr_nnunet.report import differences
from unetr_nnunet.report.study import gather


def test_one_model_has_none() -> None:
    assert differences.context(gather([random_model("A", 6)])) is None


def test_the_leader_is_compared_with_every_other() -> None:
    models = [
        random_model(name, 20, mean=mean, seed=seed)
        for seed, (name, mean) in enumerate((("A", 0.6), ("B", 0.9), ("C", 0.9)))
    ]
    content = differences.context(gather(models))
    assert content is not None
    assert content["leader"] in ("B", "C")
    last = content["pairs"][-1]
    assert last["other"] == "A"
    assert [row["organ"] for row in last["rows"]] == ["mean of organs", "spleen", "liver"]
    assert {row["words"] for row in last["rows"]} == {f"{content['leader']} is better"}
    assert "better" not in content["pairs"][0]["rows"][0]["words"]
    matrix = {row["name"]: row["cells"] for row in content["matrix"]}
    names = content["names"]
    assert matrix["A"][names.index("B")]["difference"] == -matrix["B"][names.index("A")]["difference"]
    assert matrix["A"][names.index("A")] is None
    assert content["ranking"][-1]["name"] == "A"
