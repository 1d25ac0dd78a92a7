"""A first configuration, from what Slurm reports: every cluster in its accounting, every partition that is open."""

from slurm_carbon.config import POWER, Config, Outlooks, Place, Site, parse
from slurm_carbon.errors import CommandError, ConfigError
from slurm_carbon.forecast import climatology
from slurm_carbon.model import Power
from slurm_carbon.outlook import Source
from slurm_carbon.slurm import facts
from slurm_carbon.slurm.command import Command, Runner


def propose(runner: Runner, zones: dict[str, str], confs: dict[str, str], filesystem: str) -> Config:
    """The configuration to start from. Zones by cluster, "" for all others. Raises ConfigError or CommandError."""
    defaults = parse({}, Source("defaults", 0, 0))
    power = Power(**{key.name: key.default for key in POWER})
    sites = []
    names = cluster_names(runner, confs)
    if unknown := sorted(set(zones) - {"", *names}):
        raise ConfigError(f"--zone: no cluster {unknown[0]!r}; there are {', '.join(names)}")
    for name in names:
        zone = zones.get(name, zones.get("", ""))
        if not zone:
            raise ConfigError(
                f"cluster {name}: in which zone is it? Say --zone {name}=ZONE; the climatology knows "
                + ", ".join(climatology.zones())
            )
        found = facts.read(runner, name, confs.get(name, ""), filesystem)
        open_to_all = [p for p in found.partitions if p.up and not p.root_only and not p.needs_reservation]
        places = tuple(Place(partition.name, zone, power) for partition in open_to_all)
        sites.append(Site(name, confs.get(name, ""), filesystem, places))
    known = climatology.zones()
    used = sorted({place.zone for site in sites for place in site.places})
    if missing := [zone for zone in used if zone not in known]:
        raise ConfigError(f"zone {', '.join(missing)}: not in the climatology, which has {', '.join(known)}")
    return defaults._replace(
        zones=parse({"zones": {zone: {} for zone in used}}, defaults.source).zones,
        sites=tuple(sites),
        outlook=Outlooks(*defaults.outlook),
    )


def cluster_names(runner: Runner, confs: dict[str, str]) -> list[str]:
    """The clusters with a slurm.conf given, and those of the accounting or, without one, the one at hand."""
    listed = runner.run(Command(["sacctmgr", "-nP", "list", "cluster", "format=cluster"], "which clusters there are"))
    names = listed.stdout.decode("utf-8", "replace").split()
    if listed.exit_code or not names:
        shown = runner.run(Command(["scontrol", "show", "config"], "which cluster this is"))
        if shown.exit_code:
            raise CommandError(f"scontrol show config: {shown.complaint}")
        settings = dict(facts.settings(shown.stdout.decode("utf-8", "replace")))
        names = [settings.get("ClusterName", "")]
    return sorted(set(names) | set(confs))
