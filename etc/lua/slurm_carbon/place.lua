--- place: one job, placed exactly

local M = ...
local place = M.place
local floor, ceil, huge, max, min = math.floor, math.ceil, math.huge, math.max, math.min

local SAME = 1 - 1e-9 -- what floating point cannot tell apart is no reason to wait
local PERISHES_S = 3600.0

--- The running integral of a series at a second: exact, also where it falls inside a slot or outside of the series.
function place.at(series, epoch)
  local slot = floor((epoch - series.start) / series.slot_s)
  local n = #series.values
  if slot < 0 then return (epoch - series.start) * series.values[1] end
  if slot >= n then return series.edges[n + 1] + (epoch - series.start - series.slot_s * n) * series.beyond end
  return series.edges[slot + 1] + (epoch - series.start - slot * series.slot_s) * series.values[slot + 1]
end

--- What is left at `now` of a congestion price in g/h, as a series in g/s up to the second `last`; nil for nothing.
function place.still_due(price_g_per_h, zone, now, last)
  local due = {start = zone.start, slot_s = zone.slot_s, values = {}, edges = {0.0}, beyond = 0.0}
  local total, ahead, any = 0.0, zone.start - now, false
  for slot = 1, min(#zone.values, floor((last - zone.start) / zone.slot_s) + 2) do
    local value = 0.0
    if ahead > 0 then
      value = price_g_per_h[slot] * (1 - math.exp(-ahead / PERISHES_S)) / 3600
      any = any or value > 0
    end
    total = total + value
    due.values[slot], due.edges[slot + 1] = value, total * zone.slot_s
    ahead = ahead + zone.slot_s
  end
  return any and due or nil
end

--- What a job's resources at a location cost, in g per hour for each slot; nil where there is room.
function place.price(amounts, location)
  local total
  for _, price in ipairs(location.prices or {}) do
    local amount = amounts[price.resource]
    if amount > 0 then
      local sum = {}
      for slot, value in ipairs(price.values) do sum[slot] = (total and total[slot] or 0.0) + amount * value end
      total = sum
    end
  end
  return total
end

--- Start of least cost in a window, what it emits, and its cost, both in g; of equals the earliest.
-- The cost bends only where start or end of the run cross the edge of a slot, so that all minima are among those starts.
function place.best_start(zone, run_s, earliest, latest, g_per_s, delay_g_per_h, due)
  local slot_s, first = zone.slot_s, zone.start
  local plain = not due and delay_g_per_h == 0 and run_s > 0 and earliest >= first and latest > earliest and g_per_s > 0
  if plain and floor((latest + run_s - first) / slot_s) < #zone.values then
    return place.best_plain(zone, run_s, earliest, latest, g_per_s)
  end
  local best, best_g, emitted_g = earliest, huge, huge
  local function consider(t)
    local emissions_g = (place.at(zone, t + run_s) - place.at(zone, t)) * g_per_s
    local g = emissions_g + delay_g_per_h * (t - earliest) / 3600
    if due then g = g + (place.at(due, t + run_s) - place.at(due, t)) end
    if g < best_g * SAME then best, best_g, emitted_g = t, g, emissions_g end
  end
  consider(earliest)
  if latest > earliest then
    local last = first + #zone.values * slot_s -- the last edge
    local by_start = first + max(0, ceil((earliest - first) / slot_s)) * slot_s
    local by_end = first - run_s + max(0, ceil((earliest - first + run_s) / slot_s)) * slot_s
    local start_last, end_last = min(latest, last), min(latest, last - run_s)
    while by_start <= start_last or by_end <= end_last do
      local next_start = by_start <= start_last and by_start or huge
      local next_end = by_end <= end_last and by_end or huge
      consider(min(next_start, next_end))
      if next_start <= next_end then by_start = by_start + slot_s end
      if next_end <= next_start then by_end = by_end + slot_s end
    end
    consider(latest)
  end
  return best, emitted_g, best_g
end

--- The same where nothing but emissions counts and the series covers all: four additions a start.
function place.best_plain(zone, run_s, earliest, latest, g_per_s)
  local values, edges, slot_s, first = zone.values, zone.edges, zone.slot_s, zone.start
  local whole = floor(run_s / slot_s)
  local rest = run_s - whole * slot_s
  local lead = slot_s - rest -- how far into its slot a run starts that ends on an edge
  local best, least = earliest, place.at(zone, earliest + run_s) - place.at(zone, earliest)
  local bar = least * SAME
  local from, to = floor((earliest - first) / slot_s), floor((latest - first) / slot_s)
  local function consider(t)
    local cost = place.at(zone, t + run_s) - place.at(zone, t)
    if cost < bar then best, least, bar = t, cost, cost * SAME end
  end
  local t = first + from * slot_s + lead
  if rest > 0 and t > earliest and t < latest then consider(t) end
  if rest > 0 then
    for slot = from + 2, to do -- counted from 1; the last is looked at below
      local edge = edges[slot]
      local cost = edges[slot + whole] + rest * values[slot + whole] - edge
      if cost < bar then best, least, bar = first + (slot - 1) * slot_s, cost, cost * SAME end
      cost = edges[slot + whole + 1] - (edge + lead * values[slot])
      if cost < bar then best, least, bar = first + (slot - 1) * slot_s + lead, cost, cost * SAME end
    end
  else
    for slot = from + 2, to do
      local cost = edges[slot + whole] - edges[slot]
      if cost < bar then best, least, bar = first + (slot - 1) * slot_s, cost, cost * SAME end
    end
  end
  if to > from then
    t = first + to * slot_s
    if t > earliest then consider(t) end
    if rest > 0 and t + lead < latest then consider(t + lead) end
  end
  consider(latest)
  return best, least * g_per_s, least * g_per_s
end
