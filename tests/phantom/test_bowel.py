import numpy as np

from unetr_nnunet.phantom.bowel import draw_bowel


def test_each_patient_has_loops_of_their_own():
    first, again, other = (draw_bowel(np.random.default_rng(seed)) for seed in (1, 1, 2))
    shapes = [*first.fluid, *first.vessels]
    assert len(shapes) > 10
    for one, same in zip(first.fluid, again.fluid, strict=True):
        np.testing.assert_array_equal(one.bounds_mm, same.bounds_mm)
    assert any(
        not np.array_equal(one.bounds_mm, another.bounds_mm)
        for one, another in zip(first.fluid, other.fluid, strict=True)
    )


def test_the_bowel_lies_in_the_abdomen():
    for seed in range(10):
        bowel = draw_bowel(np.random.default_rng(seed))
        for shape in bowel.fluid:
            low, high = shape.bounds_mm
            assert (low > (-160, -160, -260)).all()
            assert (high < (160, 100, 60)).all()
