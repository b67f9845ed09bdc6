from unetr_nnunet.dataset_conversion.problems import Problem, ProblemsFoundError


def test_every_problem_is_listed_with_file_fact_and_remedy():
    problems = [Problem("img0001.nii.gz", "ends early", "download it again"), Problem("b", "c", "d")]
    error = ProblemsFoundError(problems)
    assert str(error).splitlines() == [
        "2 problems found, nothing was written:",
        "  img0001.nii.gz: ends early -> download it again",
        "  b: c -> d",
    ]
    assert error.problems == tuple(problems)
    assert str(ProblemsFoundError(problems[:1])).startswith("1 problem found")


def test_a_way_out_is_the_last_line():
    error = ProblemsFoundError([Problem("a", "b", "c")], "do this")
    assert str(error).splitlines()[-1] == "  do this"
