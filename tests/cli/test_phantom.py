import pytest

from unetr_nnunet.cli.main import main


def test_writes_a_download_and_says_where(tmp_path, capsys):
    words = [str(tmp_path), "--size", "demo", "--training", "1", "--testing", "0", "--workers", "1", "--zip"]
    assert main(["phantom", *words]) == 0
    assert (tmp_path / "RawData.zip").is_file()
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'RawData.zip'}: 1 training and 0 test cases" in printed
    assert main(["phantom", *words, "--seed", "3"]) == 1
    assert "seed 0 (now 3)" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["phantom", "--help"])
    assert stopped.value.code == 0
    assert "unetr_nnunet phantom phantom_demo --size demo" in capsys.readouterr().out
