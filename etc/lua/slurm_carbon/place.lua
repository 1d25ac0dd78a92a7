--- place: one job, placed exactly

local M = ...
local place = M.place
local exp, floor, ceil, huge, max, min = math.exp, math.floor, math.ceil, math.huge, math.max, math.min

local SAME = 1 - 1e-9 -- what floating point cannot tell apart is no reason to wait
local ROUNDING = 1e-14 -- of an integral, more than a sum of two loses
local PERISHES_S = 3600.0

--- The running integral of a series at a second: exact, also where it falls inside a slot or outside of the series.
function place.at(series, epoch)
  local within = epoch - series.start
  local slot, n = floor(within / series.slot_s), series.count
  if slot < 0 then return within * series.values[1] end
  if slot >= n then return series.edges[n + 1] + (within - series.slot_s * n) * series.beyond end
  return series.edges[slot + 1] + (within - slot * series.slot_s) * series.values[slot + 1]
end

--- What a job's resources at a location cost: amounts and, for each, the price of one in g per hour for each slot; nil where
-- there is room.
function place.price(amounts, location)
  local price
  for _, due in ipairs(location.prices or {}) do
    local amount = amounts[due.resource]
    if amount > 0 then
      price = price or {}
      price[#price + 1] = {amount = amount, values = due.values}
    end
  end
  return price
end

local shares = {} -- of the last grid and second: all zones of an outlook mostly have the same grid

--- The share of a price that is left at `now`, for the first slots of a grid.
local function shares_left(zone, now, slots)
  if shares.now ~= now or shares.start ~= zone.start or shares.slot_s ~= zone.slot_s then
    shares = {now = now, start = zone.start, slot_s = zone.slot_s}
  end
  local ahead = zone.start - now + #shares * zone.slot_s
  for slot = #shares + 1, slots do
    shares[slot] = ahead > 0 and 1 - exp(-ahead / PERISHES_S) or 0.0
    ahead = ahead + zone.slot_s
  end
  return shares
end

-- for one location at a time, so that no table has to grow for each
local due, summed = {values = {}, edges = {0.0}, beyond = 0.0}, {}

--- What all the resources of a job cost together, as one amount and its price for the first slots.
local function total_price(price, slots)
  local amount, values = price[1].amount, price[1].values
  for i = 2, #price do
    local other, prices = price[i].amount, price[i].values
    for slot = 1, slots do summed[slot] = amount * values[slot] + other * prices[slot] end
    amount, values = 1, summed
  end
  return amount, values
end

--- What is left at `now` of a price, as a series in g/s up to the second `last`, which holds until the next call; nil for
-- nothing.
function place.still_due(price, zone, now, last)
  local slot_s, count = zone.slot_s, min(zone.count, floor((last - zone.start) / zone.slot_s) + 2)
  local left, amount, prices = shares_left(zone, now, count), total_price(price, count)
  local values, edges, total = due.values, due.edges, 0.0
  for slot = 1, count do
    local value = amount * prices[slot] * left[slot] / 3600
    total = total + value
    values[slot], edges[slot + 1] = value, total * slot_s
  end
  due.start, due.slot_s, due.count = zone.start, slot_s, count
  return total > 0 and due or nil
end

--- What a run that starts at a second emits, and its cost, both in g.
function place.cost(zone, run_s, start, g_per_s, owed)
  local emissions_g = (place.at(zone, start + run_s) - place.at(zone, start)) * g_per_s
  return emissions_g, owed and emissions_g + (place.at(owed, start + run_s) - place.at(owed, start)) or emissions_g
end

--- Start of least cost in a window, what it emits, and its cost, both in g; of equals the earliest.
-- The cost bends only where start or end of the run cross the edge of a slot, so that all minima are among those starts.
function place.best_start(zone, run_s, earliest, latest, g_per_s, delay_g_per_h, owed)
  local slot_s, first = zone.slot_s, zone.start
  if run_s > 0 and earliest >= first and latest > earliest and floor((latest + run_s - first) / slot_s) < zone.count then
    if owed or delay_g_per_h > 0 then
      return place.best_inside(zone, run_s, earliest, latest, g_per_s, delay_g_per_h, owed or zone.free)
    elseif g_per_s > 0 then
      return place.best_plain(zone, run_s, earliest, latest, g_per_s)
    end
  end
  local best, best_g, emitted_g = earliest, huge, huge
  local function consider(t)
    local emissions_g = (place.at(zone, t + run_s) - place.at(zone, t)) * g_per_s
    local g = emissions_g + delay_g_per_h * (t - earliest) / 3600
    if owed then g = g + (place.at(owed, t + run_s) - place.at(owed, t)) end
    if g < best_g * SAME then best, best_g, emitted_g = t, g, emissions_g end
  end
  consider(earliest)
  if latest > earliest then
    local last = first + zone.count * slot_s -- the last edge
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

-- The two below are the same where the series cover all, and have everything in local variables. Between two starts one after
-- the other the cost rises with the rate of the slot that the end runs through, and falls with that of the start: a start to
-- which it has risen, by more than is lost by rounding, cannot be better than the one before, and is left out.

--- The better of a start and the best so far, with its integral of intensity.
local function better(zone, run_s, start, best, least)
  local cost = place.at(zone, start + run_s) - place.at(zone, start)
  if cost < least * SAME then return start, cost end
  return best, least
end

--- The best of the starts that begin or end on an edge, in the slots between the first and the last of a window.
local function best_between(zone, run_s, from, to)
  local values, edges, slot_s, first = zone.values, zone.edges, zone.slot_s, zone.start
  local whole = floor(run_s / slot_s)
  local rest = run_s - whole * slot_s
  local lead = slot_s - rest -- how far into its slot a run starts that ends on an edge
  local best, least, bar = nil, huge, huge
  local slack = ROUNDING * edges[to + whole + 2]
  local rate = huge -- of the slot that the start runs through, rounded up
  if rest > 0 then
    local end_rate = values[from + 2 + whole]
    for slot = from + 2, to do -- counted from 1
      if end_rate < rate then
        local cost = edges[slot + whole] + rest * end_rate - edges[slot]
        if cost < bar then best, least, bar = first + (slot - 1) * slot_s, cost, cost * SAME end
      end
      local value = values[slot]
      rate = value + slack
      if end_rate < rate then
        local cost = edges[slot + whole + 1] - (edges[slot] + lead * value)
        if cost < bar then best, least, bar = first + (slot - 1) * slot_s + lead, cost, cost * SAME end
      end
      end_rate = values[slot + whole + 1]
    end
  else
    for slot = from + 2, to do
      if values[slot + whole - 1] < rate then
        local cost = edges[slot + whole] - edges[slot]
        if cost < bar then best, least, bar = first + (slot - 1) * slot_s, cost, cost * SAME end
      end
      rate = values[slot] + slack
    end
  end
  return best, least
end

local REMEMBERED = 500 -- run times of a zone

--- The same, remembered: most jobs of a site ask for one of a few run times, and the slots stay for a while.
local function remembered(zone, run_s, from, to)
  local known = zone.memory[run_s]
  if not known or known.from ~= from or known.to ~= to then
    if not known then zone.remembered = zone.remembered + 1 end
    if zone.remembered > REMEMBERED then zone.memory, zone.remembered = {}, 1 end
    known = {from = from, to = to}
    known.best, known.least = best_between(zone, run_s, from, to)
    zone.memory[run_s] = known
  end
  return known.best, known.least
end

--- Where nothing but emissions counts.
function place.best_plain(zone, run_s, earliest, latest, g_per_s)
  local slot_s, first = zone.slot_s, zone.start
  local rest = run_s % slot_s
  local from, to = floor((earliest - first) / slot_s), floor((latest - first) / slot_s)
  local best, least = earliest, place.at(zone, earliest + run_s) - place.at(zone, earliest)
  local t = first + (from + 1) * slot_s - rest
  if rest > 0 and t > earliest and t < latest then best, least = better(zone, run_s, t, best, least) end
  local between, cost = remembered(zone, run_s, from, to)
  if cost < least * SAME then best, least = between, cost end
  if to > from then
    t = first + to * slot_s
    if t > earliest then best, least = better(zone, run_s, t, best, least) end
    t = t + slot_s - rest
    if rest > 0 and t < latest then best, least = better(zone, run_s, t, best, least) end
  end
  best, least = better(zone, run_s, latest, best, least)
  return best, least * g_per_s, least * g_per_s
end

--- Where there is a price, or a delay has a weight.
function place.best_inside(zone, run_s, earliest, latest, g_per_s, delay_g_per_h, owed)
  local values, edges, slot_s, first = zone.values, zone.edges, zone.slot_s, zone.start
  local prices, paid, delay_g_per_s = owed.values, owed.edges, delay_g_per_h / 3600
  local whole = floor(run_s / slot_s)
  local rest = run_s - whole * slot_s
  local lead = slot_s - rest
  local best, least, emitted, bar = earliest, huge, huge, huge
  local function consider(t)
    local emissions = (place.at(zone, t + run_s) - place.at(zone, t)) * g_per_s
    local g = emissions + delay_g_per_h * (t - earliest) / 3600 + (place.at(owed, t + run_s) - place.at(owed, t))
    if g < bar then best, least, emitted, bar = t, g, emissions, g * SAME end
  end
  consider(earliest)
  local from, to = floor((earliest - first) / slot_s), floor((latest - first) / slot_s)
  local t = first + from * slot_s + lead
  if rest > 0 and t > earliest and t < latest then consider(t) end
  local slack = ROUNDING * (edges[to + whole + 2] * g_per_s + paid[to + whole + 2] + delay_g_per_s * (latest - earliest))
  local gain = slack - delay_g_per_s
  local rate = values[from + 1] * g_per_s + prices[from + 1] + gain
  if rest > 0 then
    for slot = from + 2, to do
      local value, price = values[slot + whole], prices[slot + whole]
      local end_rate = value * g_per_s + price
      if end_rate < rate then
        local emissions = (edges[slot + whole] + rest * value - edges[slot]) * g_per_s
        t = first + (slot - 1) * slot_s
        local g = emissions + delay_g_per_h * (t - earliest) / 3600 + (paid[slot + whole] + rest * price - paid[slot])
        if g < bar then best, least, emitted, bar = t, g, emissions, g * SAME end
      end
      value, price = values[slot], prices[slot]
      rate = value * g_per_s + price + gain
      if end_rate < rate then
        local emissions = (edges[slot + whole + 1] - (edges[slot] + lead * value)) * g_per_s
        t = first + (slot - 1) * slot_s + lead
        local g = emissions + delay_g_per_h * (t - earliest) / 3600 + (paid[slot + whole + 1] - (paid[slot] + lead * price))
        if g < bar then best, least, emitted, bar = t, g, emissions, g * SAME end
      end
    end
  else
    for slot = from + 2, to do
      if values[slot + whole - 1] * g_per_s + prices[slot + whole - 1] < rate then
        local emissions = (edges[slot + whole] - edges[slot]) * g_per_s
        t = first + (slot - 1) * slot_s
        local g = emissions + delay_g_per_h * (t - earliest) / 3600 + (paid[slot + whole] - paid[slot])
        if g < bar then best, least, emitted, bar = t, g, emissions, g * SAME end
      end
      rate = values[slot] * g_per_s + prices[slot] + gain
    end
  end
  if to > from then
    t = first + to * slot_s
    if t > earliest then consider(t) end
    if rest > 0 and t + lead < latest then consider(t + lead) end
  end
  consider(latest)
  return best, emitted, least
end
