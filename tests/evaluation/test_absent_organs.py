from unetr_nnunet.evaluation.absent_organs import DEFAULT_RULE, RULES


def test_the_default_is_nnunets_and_says_so() -> None:
    assert DEFAULT_RULE.name == "nnunet"
    assert "no value in both truth and prediction, 0 in truth only, 0 in prediction only" in DEFAULT_RULE.statement()


def test_every_rule_reads_differently() -> None:
    assert len({rule.statement() for rule in RULES.values()}) == len(RULES)
    assert all(name == rule.name for name, rule in RULES.items())
