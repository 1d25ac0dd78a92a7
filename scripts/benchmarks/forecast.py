"""Our own forecaster beside persistence, the climatology and published forecasts: errors, band, and the saving captured.

    scripts/bench forecast             about three minutes
    scripts/bench forecast --readme    the same, and writes its table into README.md

Zones: hourly lifecycle intensity of ten zones, fitted to 2021-2022, tested on 2023, a forecast every 12 h. Persistence
repeats the last 24 h, or takes the value of the same hour a week ago. Regions: eleven with weather forecasts and the past
mix, fitted until June 2021, tested on the second half of 2021, a forecast every day at 00 UTC; the published ones are those
of the same hours. A row of the weather there is valid 24 h after its time; no row is used that is newer than the issue.
Captured: of the saving that perfect knowledge would allow a job that may wait within a window, the share that the start with
the lowest expected mean reaches; saving against starting at once, all issues together. Countries: what the intensity that
is made of ENTSO-E's forecasts would be worth if those were exact, every third day of 2018-2020.
"""

import csv
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from slurm_carbon.forecast import climatology, entsoe, mix
from slurm_carbon.forecast import model as models
from slurm_carbon.forecast.design import PAST_H
from slurm_carbon.forecast.model import HORIZON_H, captured
from slurm_carbon.forecast.response import DAY_H, WEEK_H, Floats, Ints
from slurm_carbon.units import HOUR_S, utc

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT.parent / "shared/data/carbon"
AHEAD = np.arange(HORIZON_H)
SPANS = (24, 48, 96)
JOBS = {"capture_4h_in_24h": (4, 24), "capture_4h_in_48h": (4, 48), "capture_12h_in_48h": (12, 48)}


def hour_of(text: str) -> int:
    """Hours since the epoch."""
    return int(np.datetime64(text, "h").astype(int))


def mape_pct(forecast: Floats, truth: Floats) -> float:
    """Mean absolute percentage error."""
    return 100 * float(np.mean(np.abs(forecast - truth) / truth))


def zones() -> tuple[list[str], Ints, Floats]:
    """The ten zones: names, hours since the epoch, g/kWh of shape (zones, hours)."""
    with gzip.open(DATA / "intensity_lifecycle_2021_2023_10zones.csv.gz", "rt") as file:
        rows = list(csv.reader(file))
    hours = np.array([hour_of(row[0].rstrip("Z")) for row in rows[1:]])
    if (np.diff(hours) != 1).any():
        sys.exit("the file of the zones has a gap")
    return rows[0][1:], hours, np.array([[float(cell) for cell in row[1:]] for row in rows[1:]]).T


def of_zone(name: str, hours: Ints, g: Floats) -> dict[str, Any]:
    """The figures of one zone."""
    split = hour_of("2023-01-01T00") - int(hours[0])
    began = time.process_time()
    model = models.fit(hours[:split], g[:split])
    fit_s = time.process_time() - began
    data = models.dump([model])
    [model] = models.load(data)
    places = np.arange(split, len(hours) - HORIZON_H + 1, 12)
    found, truth = model.at(hours, g, places), g[places[:, None] + AHEAD]
    days = g[places[:, None] + AHEAD - DAY_H * (AHEAD // DAY_H + 1)]
    weeks = g[places[:, None] + AHEAD - WEEK_H]
    figures: dict[str, Any] = {}
    for span in SPANS:
        figures[f"mape_{span}h_pct"] = mape_pct(found.median[:, :span], truth[:, :span])
        figures[f"persistence_24h_mape_{span}h_pct"] = mape_pct(days[:, :span], truth[:, :span])
        figures[f"persistence_168h_mape_{span}h_pct"] = mape_pct(weeks[:, :span], truth[:, :span])
        better = min(figures[f"persistence_{past}h_mape_{span}h_pct"] for past in (24, 168))
        figures[f"over_persistence_{span}h"] = 1 - figures[f"mape_{span}h_pct"] / better
    for job, (run_h, window_h) in JOBS.items():
        figures[job] = captured(found.mean, truth, run_h, window_h)
        figures[f"{job}_by_persistence_24h"] = captured(days, truth, run_h, window_h)
        if name in climatology.zones():
            usual = np.array([of_climatology(name, int(hours[place])) for place in places])
            figures[f"{job}_by_climatology"] = captured(usual, truth, run_h, window_h)
    figures["coverage_80_pct"] = 100 * float(np.mean((truth >= found.low) & (truth <= found.high)))
    return {**figures, "fit_s": fit_s, "model_kb": len(data) / 1000}


def of_climatology(name: str, hour: int) -> list[float]:
    """What the climatology says of the hours after an issue."""
    return climatology.series(name, hour * HOUR_S, (hour + HORIZON_H) * HOUR_S).g_per_kwh


# with weather


def regions() -> dict[str, dict[str, Any]]:
    """The eleven regions until the end of 2021: hours, g/kWh, weather by the hour it is valid for, mix."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(DATA / "mix_weather_ensembleci_2019_2022_11regions.parquet")
    found = {}
    for name in table["zone"].unique().to_pylist():
        rows = table.filter(pc.equal(table["zone"], name)).sort_by("datetime")
        column = {key: rows[key].to_numpy() for key in rows.column_names if key != "zone"}
        hours = column["datetime"].astype("datetime64[h]").astype(np.int64)
        keep = hours < hour_of("2022-01-01T00")
        column = {key: values[keep] for key, values in column.items()}
        kelvin = 273.15
        rows_of_weather = np.stack(
            [column["wx_wind_speed"], column["wx_temperature"] - kelvin, column["wx_dewpoint"] - kelvin,
             column["wx_dswrf"], column["wx_precipitation"]], 1,
        ).astype(float)  # fmt: skip
        mw = {
            source: np.maximum(np.nan_to_num(column[source].astype(float)), 0.0)
            for source in (
                "coal",
                "nat_gas",
                "nuclear",
                "oil",
                "hydro",
                "solar",
                "wind",
                "other",
                "biomass",
                "geothermal",
                "unknown",
            )
        }
        total = np.maximum(sum(mw.values()), 1.0)
        found[name] = {
            "hours": hours[keep],
            "g": np.maximum(column["ci_ipcc2014_lifecycle"].astype(float), 1.0),
            "weather": np.concatenate([rows_of_weather[:DAY_H], rows_of_weather[:-DAY_H]]),
            "mix": np.stack([np.log(total), *(mw[source] / total for source in ("wind", "solar", "hydro", "nuclear"))], 1),
        }
    return found


def published() -> dict[str, dict[int, float]]:
    """The published day-ahead forecasts, lifecycle, by region and hour."""
    found: dict[str, dict[int, float]] = {}
    with gzip.open(DATA / "forecast_dayahead_dacf_2021H2_6regions.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["zone"], {})[hour_of(row["datetime"].rstrip("Z"))] = float(row["ci_lca_forecast"])
    return found


def of_region(region: dict[str, Any], others: dict[int, float] | None) -> dict[str, Any]:
    """The figures of one region, with more and more at hand."""
    hours, g = region["hours"], region["g"]
    split = hour_of("2021-07-01T00") - int(hours[0])
    places = range(split, len(hours) - DAY_H + 1, DAY_H)
    truth = np.stack([g[place : place + DAY_H] for place in places])
    before = PAST_H + WEEK_H
    figures: dict[str, Any] = {}
    for name, inputs in (("history", ()), ("weather", ("weather",)), ("weather_and_mix", ("weather", "mix"))):
        given = {key: region[key] if key in inputs else None for key in ("weather", "mix")}
        model = models.fit(hours[:split], g[:split], *(None if x is None else x[:split] for x in given.values()))
        spans = [slice(place - before, place + DAY_H) for place in places]  # nothing that is valid after the day
        found = [
            model.at(hours[span], g[span], np.array([before]), *(None if x is None else x[span] for x in given.values()))
            for span in spans
        ]
        figures[f"{name}_mape_24h_pct"] = mape_pct(np.concatenate([one.median for one in found]), truth)
        low, high = (np.concatenate([getattr(one, end) for one in found]) for end in ("low", "high"))
        figures[f"{name}_coverage_80_pct"] = 100 * float(np.mean((truth >= low) & (truth <= high)))
        figures[f"{name}_capture_4h_in_24h"] = captured(np.concatenate([one.mean for one in found]), truth, 4, 24)
    figures["persistence_24h_mape_24h_pct"] = mape_pct(np.stack([g[place - DAY_H : place] for place in places]), truth)
    if others is not None:
        said = np.array([[others[int(hour)] for hour in hours[place : place + DAY_H]] for place in places])
        figures["published_mape_24h_pct"] = mape_pct(said, truth)
        figures["published_capture_4h_in_24h"] = captured(said, truth, 4, 24)
    return figures


# from a forecast mix


COUNTRIES = ("DE", "FR", "GB", "ES", "PL", "CZ", "FI", "BE")


def of_country(table: Any, name: str) -> dict[str, float]:
    """How far off the intensity of a day is that `entsoe` makes of its wind, sun and whole, if those are forecast exactly."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["zone"], name)).sort_by("datetime")
    mw: dict[str, Floats] = {}
    for column in ("coal", "gas", "oil", "nuclear", "hydro", "wind", "solar", "biomass", "geothermal", "waste", "other"):
        source = column if column in mix.FACTORS else mix.UNKNOWN
        amount = np.maximum(np.nan_to_num(rows[column].to_numpy().astype(float)), 0.0)
        mw[source] = mw.get(source, np.zeros(len(rows))) + amount
    whole = sum(mw.values())

    def part(sources: tuple[str, ...], first: int, end: int) -> mix.Hourly:
        return {source: {hour: float(mw[source][hour]) for hour in range(first, end)} for source in sources if mw[source].any()}

    said, true, before = [], [], []
    for day in range(8, len(rows) // DAY_H - 1, 3):
        first, end = day * DAY_H, (day + 1) * DAY_H
        truth = [g for _, g in mix.intensities(part(tuple(mw), first - DAY_H, end), "lifecycle")]
        if None in truth or len(truth) < 2 * DAY_H or (whole[first - WEEK_H : end] <= 0).any():
            continue
        past, weather = part(tuple(mw), first - WEEK_H, first), part(entsoe.WEATHER, first, end)
        rows_said = entsoe.expected(past, weather, {hour: float(whole[hour]) for hour in range(first, end)}, "lifecycle")
        said.append([g for _, g in rows_said])
        true.append(truth[DAY_H:])
        before.append(truth[:DAY_H])
    found, truth_of, yesterday = (np.array(values, float) for values in (said, true, before))
    return {
        "mape_24h_pct": mape_pct(found, truth_of),
        "persistence_24h_mape_24h_pct": mape_pct(yesterday, truth_of),
        "capture_4h_in_24h": captured(found, truth_of, 4, 24),
    }


# what is shown


def table(of_zones: dict[str, dict[str, Any]], of_regions: dict[str, dict[str, Any]], means: dict[str, Any]) -> list[str]:
    """The tables of the README, in Markdown."""
    lines = ["| zone, 2023 | MAPE 24 / 48 / 96 h | persistence | captured: 4 h in 24 h | 4 in 48 | 12 in 48 | in the band |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, figures in {**of_zones, "mean": means}.items():
        errors = " / ".join(f"{figures[f'mape_{span}h_pct']:.1f}" for span in SPANS)
        rivals = " / ".join(f"{figures[f'better_persistence_{span}h_pct']:.1f}" for span in SPANS)
        shares = " | ".join(f"{100 * figures[job]:.0f} %" for job in JOBS)
        lines.append(f"| {name} | {errors} % | {rivals} % | {shares} | {figures['coverage_80_pct']:.0f} % |")
    lines += ["", "| region, July to December 2021, MAPE 24 h | history | and weather | and mix | published | persistence |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for name, figures in of_regions.items():
        cells = [figures[f"{key}_mape_24h_pct"] for key in ("history", "weather", "weather_and_mix")]
        cells += [figures.get("published_mape_24h_pct"), figures["persistence_24h_mape_24h_pct"]]
        lines.append(f"| {name} | " + " | ".join("" if cell is None else f"{cell:.2f} %" for cell in cells) + " |")
    return lines


def into_readme(lines: list[str]) -> None:
    """Put the tables between their marks."""
    path = ROOT / "README.md"
    head, mark, rest = path.read_text().partition("<!-- bench forecast -->\n")
    _, end, tail = rest.partition("<!-- end -->\n")
    if not mark or not end:
        sys.exit("README.md has no marks for the table")
    path.write_text(head + mark + "\n".join(lines) + "\n" + end + tail)


def main() -> None:
    """Measure, print, and end in one line of JSON."""
    import pyarrow.parquet as pq

    if not DATA.is_dir():
        sys.exit(f"forecast: measures on public data that is not part of the project, and looks for it in {DATA}")
    names, hours, g = zones()
    of_zones = {}
    for name, values in zip(names, g, strict=True):
        of_zones[name] = of_zone(name, hours, values)
        for span in SPANS:
            rivals = [of_zones[name][f"persistence_{past}h_mape_{span}h_pct"] for past in (24, 168)]
            of_zones[name][f"better_persistence_{span}h_pct"] = min(rivals)
        print(f"{name}: fitted in {of_zones[name]['fit_s']:.1f} s, {of_zones[name]['model_kb']:.0f} kB", flush=True)
    others = published()
    of_regions = {name: of_region(region, others.get(name)) for name, region in regions().items()}
    keys = [key for key in next(iter(of_zones.values())) if "climatology" not in key]
    means = {key: float(np.mean([figures[key] for figures in of_zones.values()])) for key in keys}
    for span in SPANS:
        means[f"over_persistence_{span}h"] = 1 - means[f"mape_{span}h_pct"] / means[f"better_persistence_{span}h_pct"]
    usual = [
        figures["capture_4h_in_24h_by_climatology"]
        for figures in of_zones.values()
        if "capture_4h_in_24h_by_climatology" in figures
    ]
    rivals = {name: figures for name, figures in of_regions.items() if "published_mape_24h_pct" in figures}
    means |= {
        "capture_4h_in_24h_by_climatology": float(np.mean(usual)),
        "weather_mape_24h_pct": float(np.mean([x["weather_and_mix_mape_24h_pct"] for x in of_regions.values()])),
        "weather_without_mix_mape_24h_pct": float(np.mean([x["weather_mape_24h_pct"] for x in of_regions.values()])),
        "no_weather_mape_24h_pct": float(np.mean([x["history_mape_24h_pct"] for x in of_regions.values()])),
        "weather_coverage_80_pct": float(np.mean([x["weather_and_mix_coverage_80_pct"] for x in of_regions.values()])),
        "better_than_published": [
            n for n, x in rivals.items() if x["weather_and_mix_mape_24h_pct"] < x["published_mape_24h_pct"]
        ],
        "published_capture_4h_in_24h": float(np.mean([x["published_capture_4h_in_24h"] for x in rivals.values()])),
    }
    lines = table(of_zones, of_regions, means)
    print("\n".join(lines))
    if "--readme" in sys.argv[1:]:
        into_readme(lines)
    print(f"measured at {utc(time.time()):%Y-%m-%d %H:%M} UTC, numpy {np.__version__}")
    countries = pq.read_table(DATA / "mix_entsoe_2018_2020_17countries.parquet")
    of_countries = {name: of_country(countries, name) for name in COUNTRIES}
    print("from exact wind, sun and whole by the method of `entsoe`, MAPE 24 h (persistence), captured 4 h in 24 h:")
    for name, figures in of_countries.items():
        errors = f"{figures['mape_24h_pct']:.1f} % ({figures['persistence_24h_mape_24h_pct']:.1f} %)"
        print(f"  {name}: {errors}, {100 * figures['capture_4h_in_24h']:.0f} %")
    print(json.dumps(rounded({**means, "zones": of_zones, "regions": of_regions, "mix_method": of_countries})))


def rounded(value: Any) -> Any:
    """Four digits are enough for a line that people read too."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
