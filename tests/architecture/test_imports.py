"""The rings hold: the import contracts of `pyproject.toml` are kept."""

from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("contract", ["layers", "core", "rules", "composition"])
def test_the_import_contract_is_kept(contract, capsys):
    status = lint_imports(
        config_filename=str(PROJECT / "pyproject.toml"),
        limit_to_contracts=(contract,),
        no_cache=True,
        no_logo=True,
    )
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
