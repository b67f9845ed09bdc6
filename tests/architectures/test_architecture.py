import pytest

from unetr_nnunet.architectures.architecture import Architecture

VALID = {"name": "Net", "build": print, "patch_multiple": len, "sizes": {"base": {"width": 3}}, "reference": "me"}


def test_the_first_size_is_the_default() -> None:
    architecture = Architecture(**VALID | {"sizes": {"M": {}, "S": {"width": 1}}})
    assert architecture.default_size == "M"
    assert not architecture.has_tokens
    assert Architecture(**VALID, planned=("token_size",)).has_tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "my net"}, "the architecture is called 'my net', and a trainer's name could not hold that"),
        ({"name": "my__net"}, "'my__net'.* no underscore"),
        ({"name": "my_net"}, "'my_net'.* no underscore"),
        ({"name": "3DNet"}, "'3DNet'.* a letter first"),
        ({"name": "Nét"}, "'Nét'"),
        ({"sizes": {}}, "architecture Net has no size: give at least one"),
        ({"sizes": {"very large": {}}}, "a size of architecture Net is called 'very large'"),
        ({"sizes": {"base": {"layer": print}}}, "size base of architecture Net is not plain data"),
        ({"dimensions": (3, 4)}, r"architecture Net has dimensions \(3, 4\): give \(3,\)"),
        ({"dimensions": ()}, r"architecture Net has dimensions \(\)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Architecture(**VALID | changes)
    assert "\n" not in str(caught.value)
