"""The wheel carries what lies beside the package in a checkout: `promo_assets.contract.project`."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BESIDE = ("dbt_like_sql", "expectations", "offers", "workspace.yaml")


class Beside(BuildHookInterface):
    """Puts the files into the package; an editable installation reads the checkout's own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {
                name: f"promo_assets/_project/{name}" for name in BESIDE
            }
