--- wishes: what the owner of a job asks for

local M = ...
local wishes, units = M.wishes, M.units
local concat, format = table.concat, string.format

local PREFIX = "--carbon-"
local LOCATIONS_LIMIT = 1000
local VALUES = {"max-delay", "finish-by", "locations"}
local FLAGS = {"off", "dry-run", "explain", "verbose", "help"}
local YES, NO = units.set({"1", "yes", "true", "on"}), units.set({"", "0", "no", "false", "off"})
local IS_VALUE, IS_FLAG = units.set(VALUES), units.set(FLAGS)

--- Add one wish to a table of wishes. Raises a mistake that says where it was made.
function wishes.add(found, name, value, now, where)
  local ok, problem = true, nil
  if name == "max-delay" then
    ok, problem = pcall(units.duration_s, value)
    found.max_delay_s = problem
  elseif name == "finish-by" then
    ok, problem = pcall(units.parse_time, value, now)
    found.finish_by = problem
  elseif name == "locations" then
    local names = {}
    for part in value:gmatch("[^,]+") do
      local location = units.trim(part)
      if location ~= "" then names[#names + 1] = location end
      if #names > LOCATIONS_LIMIT then units.mistake(format("%s: names more than %.0f locations", where, LOCATIONS_LIMIT)) end
    end
    if #names == 0 then units.mistake(where .. ": names no location") end
    found.locations = names
  else
    found[name:gsub("-", "_")] = value == "" or not NO[value:lower()]
  end
  if not ok then
    if type(problem) ~= "table" or not problem.mistake then error(problem, 0) end
    units.mistake(where .. ": " .. problem.mistake)
  end
end

--- The wishes in CSBATCH_* variables; `get` gives the value of a variable or nil. Raises a mistake.
function wishes.of_environment(get, now)
  local found = {}
  for _, names in ipairs({VALUES, FLAGS}) do
    for _, name in ipairs(names) do
      local variable = "CSBATCH_" .. name:upper():gsub("-", "_")
      local value = units.trim(get(variable) or "")
      if value ~= "" and name ~= "help" then
        if IS_FLAG[name] and not YES[value:lower()] and not NO[value:lower()] then
          units.mistake(format("%s=%s: say 1 or 0", variable, value:sub(1, 40)))
        end
        wishes.add(found, name, value, now, variable)
      end
    end
  end
  return found
end

--- A line as a shell would split it, without what follows a #. Raises a mistake.
function wishes.words(text)
  local words, word, quote, i = {}, nil, nil, 1
  local function add(piece)
    word = word or {}
    word[#word + 1] = piece
  end
  while i <= #text do
    local c = text:sub(i, i)
    if quote then
      if c == quote then
        quote = nil
      elseif c == "\\" and quote == '"' then
        i = i + 1
        local escaped = text:sub(i, i)
        add((escaped == '"' or escaped == "\\") and escaped or c .. escaped)
      else
        add(c)
      end
    elseif c == "'" or c == '"' then
      quote = c
      add("")
    elseif c == "\\" then
      i = i + 1
      if i > #text then units.mistake("No escaped character") end
      add(text:sub(i, i))
    elseif c == "#" then
      break
    elseif c:match("%s") then
      if word then words[#words + 1] = concat(word) end
      word = nil
    else
      add(c)
    end
    i = i + 1
  end
  if quote then units.mistake("No closing quotation") end
  if word then words[#words + 1] = concat(word) end
  return words
end

--- Name and value of `--carbon-NAME[=VALUE]`: the name in full where it was abbreviated without doubt.
function wishes.option(word)
  local name, equals, value = word:sub(#PREFIX + 1):match("^([^=]*)(=?)(.*)$")
  if name ~= "" and not IS_VALUE[name] and not IS_FLAG[name] then
    local full
    for _, names in ipairs({VALUES, FLAGS}) do
      for _, known in ipairs(names) do
        if known:sub(1, #name) == name then full = full == nil and known or false end
      end
    end
    name = full or name
  end
  return name, equals == "=" and value or nil
end

--- Add the wishes in one #CSBATCH line. Raises a mistake.
function wishes.add_line(found, text, now)
  local words, i = wishes.words(text), 1
  while i <= #words do
    if words[i]:sub(1, #PREFIX) ~= PREFIX then
      units.mistake(format("'%s' is none of our options, which begin %s", words[i]:sub(1, 40), PREFIX))
    end
    local name, value = wishes.option(words[i])
    if IS_VALUE[name] and not value then
      i = i + 1
      value = words[i] or units.mistake(PREFIX .. name .. " needs a value")
    elseif not IS_VALUE[name] and not IS_FLAG[name] then
      units.mistake("unknown option " .. PREFIX .. name:sub(1, 40) .. "; see --carbon-help")
    elseif IS_FLAG[name] and value then
      units.mistake(PREFIX .. name .. " takes no value")
    end
    if name ~= "help" then wishes.add(found, name, value or "", now, PREFIX .. name) end
    i = i + 1
  end
end

--- The wishes in the #CSBATCH lines of a script, the words of its #SBATCH lines, and what is wrong in the former. Like the
-- latter they count up to the first line that is neither a comment nor blank.
function wishes.of_script(script, now)
  local found, own, wrong, line_number, from = {}, {}, nil, 0, 1
  while from <= #script do
    local last = script:find("\n", from, true) or #script + 1
    local line = script:sub(from, last - 1)
    from, line_number = last + 1, line_number + 1
    if line:find("%S") and line:sub(1, 1) ~= "#" then break end
    if line:find("^#CSBATCH[ \t]") then
      local ok, problem = pcall(wishes.add_line, found, line:sub(9), now)
      if not ok then
        if type(problem) ~= "table" or not problem.mistake then error(problem, 0) end
        wrong = wrong or format("script line %d: %s", line_number, problem.mistake)
      end
    elseif line:find("^#SBATCH%s") then
      for word in line:sub(8):gmatch("%S+") do
        if word:sub(1, 1) == "#" then break end
        own[#own + 1] = word
      end
    end
  end
  return found, own, wrong
end

--- One set of wishes: of each, what the first of two speaks of.
function wishes.merged(first, second)
  local both = {}
  for name, value in pairs(second) do both[name] = value end
  for name, value in pairs(first) do both[name] = value end
  return both
end
