"""docs/reference/federation.md lists every key of the three files, with the default that the file's model has."""

import re
from pathlib import Path

import pytest
import yaml

from fedlaw_flwr.deploy.federation import Federation, Images, Silo, SuperLink
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.silo.policy import Policy, Privacy

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "federation.md").read_text(encoding="utf-8")
SECTIONS = {
    "## federation.yaml": Federation,
    "### superlink": SuperLink,
    "### Each of the silos": Silo,
    "### images": Images,
    "## silo.yaml": SiloConfig,
    "## policy.yaml": Policy,
    "### privacy": Privacy,
}


@pytest.mark.parametrize(("title", "model"), SECTIONS.items(), ids=[model.__name__ for model in SECTIONS.values()])
def test_every_key_is_on_the_page_with_its_default(title, model):
    section = re.split(r"\n##", PAGE.partition(f"\n{title}\n")[2])[0]
    listed = dict(re.findall(r"^\| `([\w-]+)` \| (.+?) \|", section, re.MULTILINE))
    assert list(listed) == [field.replace("_", "-") for field in model.model_fields]
    for name, field in model.model_fields.items():
        stated = listed[name.replace("_", "-")]
        if field.is_required():
            assert stated == "needed"
        elif (default := field.get_default(call_default_factory=True)) is None:
            assert stated == "none"
        elif stated != "see below":
            assert yaml.safe_load(stated.strip("`")) == default
