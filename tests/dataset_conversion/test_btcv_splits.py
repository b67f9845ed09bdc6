from unetr_nnunet.dataset_conversion.btcv_splits import SPLITS, TEST_NUMBERS, TRAINING_NUMBERS


def test_btcv_has_thirty_labelled_and_twenty_test_cases():
    assert len(TRAINING_NUMBERS) == 30
    assert [number for number in range(1, 41) if number not in TRAINING_NUMBERS] == list(range(11, 21))
    assert (TEST_NUMBERS[0], TEST_NUMBERS[-1], len(TEST_NUMBERS)) == (61, 80, 20)


def test_the_published_divisions_have_their_sizes_and_do_not_overlap():
    (fold,) = SPLITS["unetr-24-6"].folds
    training, validation = fold
    assert (len(training), len(validation)) == (24, 6)
    assert sorted((*training, *validation)) == list(TRAINING_NUMBERS)
    transunet = SPLITS["transunet-18-12"]
    assert (len(transunet.training), len(transunet.test)) == (18, 12)
    assert sorted((*transunet.training, *transunet.test)) == list(TRAINING_NUMBERS)
