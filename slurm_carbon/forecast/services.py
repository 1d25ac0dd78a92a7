"""Every service that can be asked, by the name that the configuration uses."""

from slurm_carbon.forecast import carbonintensity, casdk, eia, electricitymaps, energycharts, entsoe, watttime
from slurm_carbon.forecast.service import Service

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        electricitymaps.SERVICE,
        electricitymaps.MIX,
        watttime.SERVICE,
        carbonintensity.SERVICE,
        energycharts.SERVICE,
        casdk.SERVICE,
        entsoe.SERVICE,
        eia.SERVICE,
    )
}
