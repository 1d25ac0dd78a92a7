--- record: what a decision leaves on the job

local M = ...
local record, units = M.record, M.units
local format = string.format

--- Text that stays on its line and is UTF-8, whatever was in it.
function record.plain(text) return (text:gsub("[^%w%p ]", "?")) end

function record.quoted(text) return '"' .. record.plain(text):gsub('[\\"]', "\\%0") .. '"' end

--- What a zone adds to a record.
function record.of_zone(zone)
  return format('"zone":%s,"source":%s,"counts":%s,"issued":%.0f', record.quoted(zone.name), record.quoted(zone.source),
    record.quoted(zone.kind), zone.issued)
end

--- The names of all locations where a job may run, in the order of the outlook: always the one of plain sbatch.
function record.may_run_at(decision, o)
  local found, names = {}, {}
  for _, alternative in ipairs(decision.alternatives or {}) do
    if alternative.best then found[alternative.location.name] = true end
  end
  for _, placed in ipairs({decision.baseline, decision.chosen}) do found[placed.location.name] = true end
  for _, location in ipairs(o.locations) do
    if found[location.name] then names[#names + 1] = location.name end
  end
  return names
end

--- The full record for admin_comment, as JSON on one line.
function record.json(decision, mode, o, now)
  local text = format('{"slurm_carbon":"%s","mode":"%s","decided":%.0f,"outlook":%.0f,"reason":%s', M.VERSION, mode, now,
    o.generated, decision.reason == "" and '""' or record.quoted(decision.reason))
  local baseline, chosen = decision.baseline, decision.chosen
  if baseline then
    local placed = chosen or baseline
    text = text .. format(',"home":%s,"baseline_g":%.6g,"latest":%.0f,"bound":%s,"run_time_s":%.0f,"run_time_by":%s,'
      .. '"power_w":%.6g,"energy_kwh":%.6g,%s', record.quoted(baseline.location.name), baseline.emissions_g, decision.latest,
      record.quoted(decision.bound), placed.run_time_s, record.quoted(decision.run_time_by), placed.power_w,
      placed.power_w * placed.run_time_s / 3.6e6, placed.location.zone.json)
    local names = record.may_run_at(decision, o)
    for i, name in ipairs(names) do names[i] = record.quoted(name) end
    text = text .. ',"in":[' .. table.concat(names, ",") .. "]"
    if chosen then
      text = text .. format(',"at":%s,"begin":%.0f,"emissions_g":%.6g', record.quoted(chosen.location.name), chosen.start,
        chosen.emissions_g)
    end
  end
  return text .. "}"
end

--- The user's comment with the short mark behind it, without its list of locations if that is too long; nil where both do not
-- fit even so.
function record.comment(comment, decision, o)
  local chosen = decision.chosen
  local mark = format("cs1 begin=%.0f latest=%.0f at=%s g=%.4g base=%.4g kwh=%.4g", chosen.start, decision.latest,
    chosen.location.name, chosen.emissions_g, decision.baseline.emissions_g, chosen.power_w * chosen.run_time_s / 3.6e6)
  local joined = comment and comment ~= "" and comment .. " | " .. mark or mark
  local names = record.may_run_at(decision, o)
  if #names > 1 or names[1] ~= chosen.location.name then
    local longer = joined .. " in=" .. table.concat(names, ",")
    if #longer <= M.COMMENT_LIMIT then return longer end
  end
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
