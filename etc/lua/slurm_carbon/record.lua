--- record: what a decision leaves on the job

local M = ...
local record, units = M.record, M.units
local concat, format = table.concat, string.format

--- Text that stays on its line and is UTF-8, whatever was in it.
function record.plain(text) return (text:gsub("[^%w%p ]", "?")) end

function record.quoted(text) return '"' .. record.plain(text):gsub('[\\"]', "\\%0") .. '"' end

--- A number as JSON.
function record.number(value, form) return (format(form or "%.6g", value):gsub("inf", "0"):gsub("nan", "0")) end

--- The full record for admin_comment, as JSON on one line.
function record.json(decision, mode, o, now)
  local fields = {
    '"slurm_carbon":' .. record.quoted(M.VERSION), '"mode":' .. record.quoted(mode), '"decided":' .. record.number(now, "%.0f"),
    '"outlook":' .. record.number(o.generated, "%.0f"), '"reason":' .. record.quoted(decision.reason),
  }
  local function add(name, text) fields[#fields + 1] = format('"%s":%s', name, text) end
  local placed = decision.chosen or decision.baseline
  if decision.baseline then
    add("home", record.quoted(decision.baseline.location.name))
    add("baseline_g", record.number(decision.baseline.emissions_g))
    add("latest", record.number(decision.latest, "%.0f"))
    add("bound", record.quoted(decision.bound))
    add("run_time_s", record.number(placed.run_time_s, "%.0f"))
    add("run_time_by", record.quoted(decision.run_time_by))
    add("power_w", record.number(placed.power_w))
    add("energy_kwh", record.number(placed.power_w * placed.run_time_s / 3.6e6))
    add("zone", record.quoted(placed.location.zone.name))
    add("source", record.quoted(placed.location.zone.source))
    add("counts", record.quoted(placed.location.zone.kind))
    add("issued", record.number(placed.location.zone.issued, "%.0f"))
  end
  if decision.chosen then
    add("at", record.quoted(placed.location.name))
    add("begin", record.number(placed.start, "%.0f"))
    add("emissions_g", record.number(placed.emissions_g))
  end
  return "{" .. concat(fields, ",") .. "}"
end

--- The user's comment with the short mark behind it; nil where both do not fit.
function record.comment(comment, decision)
  local chosen = decision.chosen
  local mark = format("cs1 begin=%.0f latest=%.0f at=%s g=%.4g base=%.4g kwh=%.4g", chosen.start, decision.latest,
    chosen.location.name, chosen.emissions_g, decision.baseline.emissions_g, chosen.power_w * chosen.run_time_s / 3.6e6)
  local joined = comment and comment ~= "" and comment .. " | " .. mark or mark
  return #joined <= M.COMMENT_LIMIT and joined or nil
end

--- What was decided and what it should save, in one line for the user.
function record.line(decision, would)
  local chosen, baseline = decision.chosen, decision.baseline
  if not chosen then return "left as it is: " .. record.plain(decision.reason) end
  local delay_s, when = chosen.start - decision.earliest, "at once"
  if delay_s > 0 then
    when = format("%s (%s later)", os.date("%a %d %b %H:%M", chosen.start), units.duration_text(delay_s))
  end
  local saved = baseline.emissions_g > 0 and 100 * (1 - chosen.emissions_g / baseline.emissions_g) or 0
  return format("%s %s on %s (%s); should emit %s CO2e instead of %s (%.0f %% less; %s)", would and "would start" or "starts",
    when, chosen.location.name, chosen.location.zone.name, units.mass_text(chosen.emissions_g),
    units.mass_text(baseline.emissions_g), saved, record.plain(chosen.location.zone.source))
end
