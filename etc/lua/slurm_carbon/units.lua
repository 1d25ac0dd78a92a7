--- units: reading and printing of quantities

local M = ...
local units = M.units
local floor, huge = math.floor, math.huge
local concat, format = table.concat, string.format

local HOUR_S, DAY_S = 3600, 86400
local UNIT_S = {s = 1, m = 60, h = HOUR_S, d = DAY_S, w = 7 * DAY_S}

--- What a user or site did wrong: raised as a table, so that no line number is put before it.
function units.mistake(text) error({mistake = text}, 0) end

--- Pieces of a text between separators (plain text); empty pieces too.
function units.split(text, separator)
  local pieces, from = {}, 1
  while true do
    local at, last = text:find(separator, from, true)
    pieces[#pieces + 1] = text:sub(from, (at or 0) - 1)
    if not at then return pieces end
    from = last + 1
  end
end

--- A text without the blanks around it. No pattern here may try a long run of them from each of its positions.
function units.trim(text)
  local first = text:find("%S")
  return first and text:match("^.*%S", first) or ""
end

--- Names between commas, without empty ones.
function units.names(text)
  local names = {}
  for name in (text or ""):gmatch("[^,]+") do names[#names + 1] = name end
  return names
end

--- Seconds of a time limit as Slurm writes it; nil for UNLIMITED, false for what is none.
function units.slurm_duration_s(text)
  local upper = text:upper()
  if upper == "UNLIMITED" or upper == "INFINITE" or text == "-1" then return nil end
  local days, rest = text:match("^(.*)%-([^%-]*)$")
  local parts = units.split(rest or text, ":")
  if #parts > 3 then return false end
  for i, part in ipairs(parts) do
    if not part:match("^%d+$") then return false end
    parts[i] = tonumber(part)
  end
  if days then
    if not days:match("^%d+$") then return false end
    return tonumber(days) * DAY_S + parts[1] * HOUR_S + (parts[2] or 0) * 60 + (parts[3] or 0)
  end
  if #parts == 3 then return parts[1] * HOUR_S + parts[2] * 60 + parts[3] end
  return parts[1] * 60 + (parts[2] or 0)
end

--- Seconds of a duration that a person wrote: `6h`, `1d12h`, `90m`, or any of Slurm's forms. Raises a mistake.
function units.duration_s(text)
  local words = units.trim(text):lower()
  local total, at = 0, 1
  while at <= #words do
    local number, unit, after = words:match("^([%d.]+)(%l)()", at)
    if not tonumber(number) or not UNIT_S[unit] then break end
    total, at = total + tonumber(number) * UNIT_S[unit], after
  end
  if words ~= "" and at > #words and total < math.huge then return floor(total) end
  local seconds = units.slurm_duration_s(words)
  if not seconds then
    units.mistake(format("'%s' is no duration: write for example 90m, 6h, 1d12h or 1-12:00:00", text:sub(1, 40)))
  end
  return seconds
end

--- The nearest whole number; of two equally near ones the even one, as Python rounds.
function units.round(value)
  local low = floor(value)
  local rest = value - low
  if rest > 0.5 or (rest == 0.5 and low % 2 == 1) then return low + 1 end
  return low
end

--- A duration in words that are short and exact to the minute.
function units.duration_text(seconds)
  local minutes = units.round(math.abs(seconds) / 60)
  local words = {}
  for _, part in ipairs({{floor(minutes / 1440), "d"}, {floor(minutes / 60) % 24, "h"}, {minutes % 60, "min"}}) do
    if part[1] > 0 and #words < 2 then words[#words + 1] = format("%.0f %s", part[1], part[2]) end
  end
  if #words == 0 then return "0 min" end
  return (seconds < 0 and "-" or "") .. concat(words, " ")
end

--- A mass of CO2e with three digits and a fitting unit.
function units.mass_text(grams)
  local size = math.abs(grams)
  if size >= 1e6 then return format("%.3g t", grams / 1e6) end
  if size >= 1e3 then return format("%.3g kg", grams / 1e3) end
  return format("%.3g g", grams)
end

--- MiB of a memory amount as Slurm writes it; nil for what is none.
function units.memory_mb(text)
  local factor = ({K = 1 / 1024, M = 1, G = 1024, T = 1024 * 1024})[text:sub(-1):upper()]
  local amount = tonumber(factor and text:sub(1, -2) or text)
  if not amount or amount < 0 or amount >= 1e12 then return nil end
  return amount * (factor or 1)
end

--- Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
function units.days_from_civil(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = floor(year / 400)
  local year_of_era = year - era * 400
  local day_of_year = floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + year_of_era * 365 + floor(year_of_era / 4) - floor(year_of_era / 100) + day_of_year - 719468
end

--- Epoch seconds of a local time; days and months may run over.
function units.local_time(year, month, day, hour, minute, second)
  return os.time({year = year, month = month, day = day, hour = hour, min = minute, sec = second})
end

function units.is_date(year, month, day)
  local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local days = ({31, leap and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31})[month]
  return year >= 1 and days ~= nil and day >= 1 and day <= days
end

--- Hour, minute and second of `08:00` or `08:00:30`; nil for what is none.
function units.clock(text)
  local parts = units.split(text, ":")
  for i, part in ipairs(parts) do
    parts[i] = part:find("^%d+$") and tonumber(part) or huge
  end
  local hour, minute, second = parts[1], parts[2], parts[3] or 0
  if #parts < 2 or #parts > 3 or hour > 23 or minute > 59 or second > 59 then return nil end
  return hour, minute, second
end

--- Epoch seconds of a time that a person wrote: what `sbatch --begin` takes, ISO 8601 with Z or an offset, uts<epoch>.
-- Raises a mistake.
function units.parse_time(text, now)
  local words = units.trim(text)
  return units.exact_time(words, now) or units.calendar_time(words, now)
    or units.mistake(format("'%s' is no time: write for example 2026-11-24T08:00, 08:00, tomorrow, now+18hours", text:sub(1, 40)))
end

function units.exact_time(words, now)
  local epoch = words:match("^uts(%d+)$")
  if epoch then return tonumber(epoch) end
  local lower = words:lower()
  if lower == "now" then return now end
  local count, unit = lower:match("^now%+(%d+)(%l*)$")
  if not count then return nil end
  if unit == "" then return now + tonumber(count) end
  for _, known in ipairs({{"seconds", 1}, {"minutes", 60}, {"hours", HOUR_S}, {"days", DAY_S}, {"weeks", 7 * DAY_S}}) do
    if known[1]:sub(1, #unit) == unit then return now + tonumber(count) * known[2] end
  end
  return nil
end

--- Whether hours of the clock are another zone's: then they need an offset.
units.abroad = false

function units.calendar_time(words, now)
  local lower = words:lower()
  if lower == "today" then return now end
  if units.abroad and not words:find("[Zz]$") and not words:find("[%+%-]%d%d:?%d%d$") then
    units.mistake("TZ is set: say the offset, as in 2026-11-24T08:00+01:00")
  end
  local today = os.date("*t", now)
  if lower == "tomorrow" then return units.local_time(today.year, today.month, today.day + 1, 0, 0, 0) end
  local hour, minute, second = units.clock(({midnight = "00:00", noon = "12:00"})[lower] or lower)
  if hour then
    local later = hour * HOUR_S + minute * 60 + second < today.hour * HOUR_S + today.min * 60 + today.sec
    return units.local_time(today.year, today.month, today.day + (later and 1 or 0), hour, minute, second)
  end
  local year, month, day, rest = words:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$")
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if not year or not units.is_date(year, month, day) then return nil end
  if rest == "" then return units.local_time(year, month, day, 0, 0, 0) end
  local clock, offset = rest:match("^[T ](%d%d:%d%d:?%d*)(.*)$")
  if not clock then return nil end
  hour, minute, second = units.clock(clock)
  if not hour then return nil end
  if offset == "" then return units.local_time(year, month, day, hour, minute, second) end
  local sign, hours, minutes = offset:match("^([%+%-])(%d%d):?(%d%d)$")
  if offset == "Z" then sign, hours, minutes = "+", 0, 0 end
  if not sign or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
  local shift_s = (tonumber(hours) * 60 + tonumber(minutes)) * 60 * (sign == "-" and -1 or 1)
  return units.days_from_civil(year, month, day) * DAY_S + hour * HOUR_S + minute * 60 + second - shift_s
end

--- A set of the values of a list.
function units.set(list)
  local set = {}
  for _, value in ipairs(list) do set[value] = true end
  return set
end
