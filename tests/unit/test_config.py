"""The site's configuration: complete, explained, strict."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from slurm_carbon import config as configs
from slurm_carbon import config_text
from slurm_carbon.config import Config
from slurm_carbon.errors import ConfigError
from slurm_carbon.outlook import Source

ETC = Path(__file__).parent.parent.parent / "etc"
SOURCE = Source("x.toml", 0, 0)
SMALL = """
[policy]
max_delay = "36h"
[forecasts]
max_age = "2d"
[sources.entsoe]
key_file = "/etc/slurm_carbon/keys/entsoe"
[zones.DE]
sources = ["entsoe", "own", "climatology"]
names = {entsoe = "10Y1001A1001A82H"}
weather_at = [52.5, 13.4]
[zones.FR]
sources = ["file"]
file = "/srv/fr.csv"
[clusters.alpha]
zone = "DE"
pue = 1.2
[clusters.alpha.partitions.batch]
[clusters.alpha.partitions."gpu-a.b"]
zone = "FR"
watts_per_core = 5
"""


def parse(text: str) -> Config:
    """The configuration in a TOML text."""
    return configs.parse(tomllib.loads(text), SOURCE)


def test_partitions_inherit_what_they_do_not_say() -> None:
    """From the cluster, and the cluster from [power]."""
    config = parse("[power]\nwatts_per_gpu = 300\n" + SMALL)
    batch, gpu = config.sites[0].places
    assert (batch.zone, batch.power.pue, batch.power.watts_per_gpu, batch.power.watts_per_core) == ("DE", 1.2, 300, 10.8)
    assert (gpu.zone, gpu.power.pue, gpu.power.watts_per_core) == ("FR", 1.2, 5)
    assert config.policy.max_delay_s == 36 * 3600


def test_what_is_printed_reads_back_the_same() -> None:
    """`config show` prints a file that means what the configuration means."""
    config = parse(SMALL)
    assert parse(config_text.render(config)) == config


def test_the_shipped_file_is_complete_and_means_the_defaults() -> None:
    """etc/slurm_carbon.toml reads, and has every key with its explanation."""
    config = configs.load(str(ETC / "slurm_carbon.toml"))
    text = (ETC / "slurm_carbon.toml").read_text()
    assert text == config_text.render(config)
    for key in (
        *configs.POLICY,
        *configs.OUTLOOK,
        *configs.REOPTIMIZE,
        *configs.FORECASTS,
        *configs.FEED,
        *configs.ZONE,
        *configs.POWER,
        *configs.CLUSTER,
    ):
        assert re.search(rf"^# .*\n{key.name} = ", text, re.MULTILINE), key.name
    assert config.policy == parse("").policy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[polcy]", "unknown key 'polcy'; did you mean 'policy'"),
        ("[policy]\nmax_dely = '1h'", r"\[policy\]: unknown key 'max_dely'; did you mean 'max_delay'"),
        ("[policy]\nmax_delay = 6", r"max_delay = 6: must be a duration such as"),
        ("[policy]\nmin_saving_pct = 101", "number from 0 to 100"),
        ("[policy]\nmin_saving_pct = true", "number from 0 to 100"),
        ("[policy]\nmove_clusters = 1", "true or false"),
        ("[policy]\nopt_out = ['me']", "user:NAME"),
        ("[outlook]\nfallback = 'guess'", '"climatology", "none"'),
        ("[outlook]\nslot = '1s'", "slot must be at least 1m"),
        ("[zones.DE]\nsources = ['file']", "needs `file`"),
        ("[zones.DE]\nsources = ['magic']", 'must be a list, without repetition, of "file"'),
        ("[zones.DE]\nsources = []", "without repetition"),
        ("[zones.DE]\nsources = ['static']", "needs `g_per_kwh`"),
        ("[zones.DE]\nhistory = 'eai'", "did you mean 'eia'"),
        ("[zones.DE]\nweather_at = [91, 0]", "in degrees"),
        ("[zones.DE]\nnames = {who = 'X'}", "a table of sources and names"),
        ("[sources.watttme]", "did you mean 'watttime'"),
        ("[sources.eia]\nkey = 'abc'", "unknown key 'key'; did you mean 'key_file'"),
        ("zones = 3", r"\[zones\] must hold tables"),
        ("[clusters.a]\nzone = 'DE'\n[clusters.a.partitions.b]", r"zone 'DE' has no \[zones.DE\]"),
        ("[zones.DE]\n[clusters.a.partitions.b]\nzone = 'ED'", "did you mean 'DE'"),
        ("[clusters.a]\npartition.b = 1", "unknown key 'partition'"),
        ("[power]\npue = 0.9", "number from 1 to 5"),
        ("[power]\npue = nan", "number from 1 to 5"),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(text: str, says: str) -> None:
    """A wrong key or value is refused with the file, the table, the key, and what is right."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse(text)
    assert "x.toml" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, no TOML, no text: each an error with the path."""
    for name, content in (("none", None), ("broken", b"[policy"), ("binary", b"\xff\xfe")):
        path = tmp_path / f"{name}.toml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=str(path)):
            configs.load(str(path))
