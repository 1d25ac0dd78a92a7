--- outlook: the file that all decisions are made by

local M = ...
local outlook, units, record = M.outlook, M.units, M.record
local format = string.format

local compile
if setfenv then
  compile = function(text)
    local chunk, problem = loadstring(text, "=outlook")
    return chunk and setfenv(chunk, {}), problem
  end
else
  compile = function(text) return load(text, "=outlook", "t", {}) end
end

function outlook.broken(text, ...) error({outlook = select("#", ...) > 0 and format(text, ...) or text}, 0) end

--- Refuse a text that is anything but one table of texts, numbers, true and false: without a name or a bracket in it no Lua
-- can call anything.
function outlook.verify(body)
  local bare = body:gsub('"[^"\\\r\n]*"', '""')
  if bare:find("\\", 1, true) then outlook.broken("a text in it is not plain") end
  bare = bare:gsub("%f[%a]true%f[%A]", "1"):gsub("%f[%a]false%f[%A]", "1"):gsub("(%d)e([%+%-]?%d)", "%1%2")
  local odd = bare:find('[^%d{}%[%]=,%.%+%-"%s]')
  if odd or bare:find("--", 1, true) or bare:find("[[", 1, true) or bare:find("[=", 1, true) then
    outlook.broken("it is not pure data")
  end
  if not bare:find("^%s*{") then outlook.broken("it is no table") end
end

--- The values in the text of an outlook. Raises what is wrong with it.
function outlook.parse(text)
  local first, body = text:match("^(.-)\n(.*)$")
  if not first then outlook.broken("it has no first line") end
  outlook.header(first)
  outlook.verify(body)
  local chunk = compile("return " .. body)
  if not chunk then outlook.broken("it is no table") end
  local ok, raw = pcall(chunk)
  if not ok or type(raw) ~= "table" then outlook.broken("it is no table") end
  return outlook.check(raw)
end

--- Format, time and length that the first line claims. Raises what is wrong with it.
function outlook.header(line)
  local version, generated, bytes = line:match("^%-%- slurm%-carbon outlook (%d+) (%d+) (%d+) ")
  if not version then outlook.broken("it is no outlook of slurm-carbon") end
  if tonumber(version) ~= M.FORMAT then
    outlook.broken("it has format %s, and this hook (%s) reads %.0f", version, M.VERSION, M.FORMAT)
  end
  return tonumber(generated), tonumber(bytes)
end

local function number(raw, name, low, high)
  local value = raw[name]
  if type(value) ~= "number" or not (value >= low and value <= high) then outlook.broken("%s is out of range", name) end
  return value
end

local function whole(raw, name, low, high)
  local value = number(raw, name, low or 0, high or 2 ^ 40)
  if value % 1 ~= 0 then outlook.broken("%s is no whole number", name) end
  return value
end

local function optional(raw, name) return raw[name] ~= nil and whole(raw, name) or nil end

local function text_of(raw, name)
  if type(raw[name]) ~= "string" then outlook.broken("%s is no text", name) end
  return raw[name]
end

local function flag(raw, name)
  if type(raw[name]) ~= "boolean" then outlook.broken("%s is neither true nor false", name) end
  return raw[name]
end

local function list_of(raw, name, kind)
  if type(raw[name]) ~= "table" then outlook.broken("%s is no list", name) end
  for key, value in pairs(raw[name]) do
    if type(value) ~= kind or type(key) ~= "number" then outlook.broken("%s has something else in it", name) end
  end
  return raw[name]
end

--- Tables by name.
local function tables_of(raw, name)
  if type(raw[name]) ~= "table" then outlook.broken("%s is no table", name) end
  for key, value in pairs(raw[name]) do
    if type(key) ~= "string" or type(value) ~= "table" then outlook.broken("%s has something else in it", name) end
  end
  return raw[name]
end

local function set_of(raw, name)
  return raw[name] ~= nil and units.set(list_of(raw, name, "string")) or nil
end

--- Pairs of name and count, written as `{"name", 2, "other", 1}`.
local function counts_of(raw, name)
  local values, counts = raw[name], {}
  if type(values) ~= "table" or #values % 2 == 1 then outlook.broken("%s is no list of counts", name) end
  for i = 1, #values, 2 do
    if type(values[i]) ~= "string" then outlook.broken("%s is no list of counts", name) end
    counts[#counts + 1] = {values[i], whole(values, i + 1)}
  end
  return counts
end

--- Numbers of a series, each in range, and their running sum: sums[i] is that of the first i - 1.
local function series(raw, name, high)
  local values, sums, total = {}, {0.0}, 0.0
  for word in text_of(raw, name):gmatch("%S+") do
    local value = tonumber(word)
    if not value or not (value >= 0 and value <= high) then outlook.broken("%s is out of range", name) end
    total = total + value
    values[#values + 1] = value
    sums[#sums + 1] = total
  end
  if #values == 0 then outlook.broken("%s is empty", name) end
  return values, sums
end

function outlook.check_zone(name, raw)
  local zone = {
    name = name, start = whole(raw, "start"), slot_s = whole(raw, "slot_s", 60), beyond = number(raw, "beyond", 0, 5000),
    captured = number(raw, "captured", 0, 1), kind = text_of(raw, "accounting") .. ", " .. text_of(raw, "factors"),
    source = text_of(raw, "source"), issued = whole(raw, "issued"), memory = {}, remembered = 0,
  }
  zone.json = record.of_zone(zone)
  local values, sums = series(raw, "mean", 5000)
  local edges, nothing = {}, {}
  for i, sum in ipairs(sums) do edges[i], nothing[i] = sum * zone.slot_s, 0.0 end
  zone.values, zone.edges, zone.count = values, edges, #values
  zone.free = {start = zone.start, slot_s = zone.slot_s, values = nothing, edges = nothing, count = #values, beyond = 0.0}
  return zone
end

function outlook.check_partition(raw)
  local partition = {
    name = text_of(raw, "name"), cluster = text_of(raw, "cluster"), up = flag(raw, "up"), is_default = flag(raw, "is_default"),
    default_time_s = optional(raw, "default_time_s"), max_time_s = optional(raw, "max_time_s"),
    min_nodes = whole(raw, "min_nodes"), max_nodes = optional(raw, "max_nodes"), root_only = flag(raw, "root_only"),
    needs_reservation = flag(raw, "needs_reservation"), whole_nodes = flag(raw, "whole_nodes"),
    default_mb_per_cpu = optional(raw, "default_mb_per_cpu"), default_mb_per_node = optional(raw, "default_mb_per_node"),
    allow_groups = set_of(raw, "allow_groups"), allow_accounts = set_of(raw, "allow_accounts"),
    deny_accounts = set_of(raw, "deny_accounts"), allow_qos = set_of(raw, "allow_qos"), deny_qos = set_of(raw, "deny_qos"),
    shapes = list_of(raw, "shapes", "table"), nodes = 0, cpus = 0, memory_mb = 0,
  }
  if not partition.deny_accounts or not partition.deny_qos then outlook.broken("a list of who is denied is missing") end
  for _, shape in ipairs(partition.shapes) do
    whole(shape, "nodes")
    whole(shape, "cpus")
    whole(shape, "memory_mb")
    shape.features, shape.gres = set_of(shape, "features") or outlook.broken("features are missing"), counts_of(shape, "gres")
    partition.nodes = partition.nodes + shape.nodes
    partition.cpus = partition.cpus + shape.nodes * shape.cpus
    partition.memory_mb = partition.memory_mb + shape.nodes * shape.memory_mb
  end
  return partition
end

local RESOURCES = {"cores", "gpus", "nodes", "memory_gb", "power_kw"}

function outlook.check_location(raw, zones)
  local location = {
    cluster = text_of(raw, "cluster"), partition = text_of(raw, "partition"), zone = zones[text_of(raw, "zone")],
    pue = number(raw, "pue", 1e-9, 10), watts_per_core = number(raw, "watts_per_core", 0, 1e6),
    watts_per_gpu = number(raw, "watts_per_gpu", 0, 1e6), watts_per_gb = number(raw, "watts_per_gb", 0, 1e6),
  }
  if not location.zone then outlook.broken("no intensity for a zone") end
  location.name = location.cluster .. "/" .. location.partition
  for _, resource in ipairs(RESOURCES) do
    if raw[resource] ~= nil then
      local values = series(raw, resource, 1e12)
      if #values ~= #location.zone.values then outlook.broken("prices of another length") end
      location.prices = location.prices or {}
      location.prices[#location.prices + 1] = {resource = resource, values = values}
    end
  end
  return location
end

function outlook.check_policy(raw)
  return {
    max_delay_s = whole(raw, "max_delay_s"), max_delay_limit_s = whole(raw, "max_delay_limit_s"),
    min_saving_pct = number(raw, "min_saving_pct", 0, 100), min_saving_g = number(raw, "min_saving_g", 0, 1e9),
    delay_g_per_h = number(raw, "delay_g_per_h", 0, 1e9), move_clusters = flag(raw, "move_clusters"),
    move_partitions = flag(raw, "move_partitions"), opt_out = list_of(raw, "opt_out", "string"),
    left_alone = list_of(raw, "left_alone", "string"),
  }
end

local MODES = units.set({"off", "observe", "advise", "enforce"})

function outlook.check_modes(raw)
  if not raw.mode then outlook.broken("no mode of the hook") end
  for _, mode in pairs(raw) do
    if not MODES[mode] then outlook.broken("an unknown mode") end
  end
  return raw
end

--- The outlook that the values describe, every one of them in range. Raises what is wrong.
function outlook.check(raw)
  local o = {generated = whole(raw, "generated"), max_age_s = whole(raw, "max_age_s"),
    client_moves = flag(raw, "client_moves"), clusters = {}, zones = {}, locations = {},
    partitions = {}, defaults = {}, names = units.set(list_of(raw, "names", "string"))}
  for _, name in ipairs({"policy", "hook"}) do
    if type(raw[name]) ~= "table" then outlook.broken("%s is no table", name) end
  end
  o.policy, o.hook = outlook.check_policy(raw.policy), outlook.check_modes(raw.hook)
  for name, values in pairs(tables_of(raw, "clusters")) do
    local licenses = {}
    for _, license in ipairs(counts_of(values, "licenses")) do licenses[license[1]] = license[2] end
    o.clusters[name] = {name = name, filesystem = text_of(values, "filesystem"), federation = text_of(values, "federation"),
      licenses = licenses}
  end
  for name, values in pairs(tables_of(raw, "zones")) do o.zones[name] = outlook.check_zone(name, values) end
  for _, values in ipairs(list_of(raw, "partitions", "table")) do
    local partition = outlook.check_partition(values)
    o.partitions[partition.cluster .. "/" .. partition.name] = partition
    if partition.is_default and not o.defaults[partition.cluster] then o.defaults[partition.cluster] = partition end
  end
  for i, values in ipairs(list_of(raw, "locations", "table")) do
    local location = outlook.check_location(values, o.zones)
    o.locations[i] = location
    o.names[location.name], o.names[location.cluster], o.names[location.zone.name] = true, true, true
  end
  return o
end

--- Open a file for reading without ever waiting for it: a FIFO that is opened for reading alone waits for a writer, and with
-- it the whole of slurmctld. Only where no file can be written, as on a file system that is read-only, is it read alone.
function outlook.open(path)
  local file, problem, code = io.open(path, "r+")
  if not file and code == 30 then file, problem, code = io.open(path, "r") end
  return file, problem, code
end

--- The outlook in a file, and whether it was read anew. `seen` is what the last call returned for the same path, or nil.
-- What is wrong with a file that has not changed is not looked for again. Raises it.
function outlook.read(path, seen, open)
  local file, problem, code = (open or outlook.open)(path)
  if code == 13 then
    outlook.broken("Permission denied: SlurmUser has to be allowed to write to it, too; `slurm-carbon hook install` sees to that")
  end
  if not file then outlook.broken("%s", (problem:gsub("^.*: ", ""))) end
  local size = file:seek("end")
  if not size or not file:seek("set", 0) then -- a FIFO must not even be read from
    file:close()
    outlook.broken("it is no regular file")
  end
  local first = file:read(256)
  local known = format("%.0f\n%s", size, first or "")
  if seen and seen.known == known then
    file:close()
    return seen
  end
  local found = {known = known}
  local ok
  ok, problem = pcall(function()
    if size > M.MAX_BYTES then outlook.broken("it is larger than %.0f MiB", M.MAX_BYTES / 1024 / 1024) end
    local _, bytes = outlook.header((first or ""):match("^[^\n]*"))
    if bytes ~= size then outlook.broken("it should have %.0f bytes, and has %.0f", bytes, size) end
    if not file:seek("set", 0) then outlook.broken("it is no regular file") end
    found.outlook = outlook.parse(file:read(size) or "")
  end)
  file:close()
  if not ok then found.problem = type(problem) == "table" and problem.outlook or tostring(problem) end
  return found
end

--- Raise what is wrong with the age of an outlook.
function outlook.check_age(o, now)
  local age_s = now - o.generated
  if age_s < -M.CLOCK_SKEW_S then outlook.broken("%s in the future", units.duration_text(-age_s)) end
  if age_s > o.max_age_s then
    outlook.broken("stale, older than %s", units.duration_text(o.max_age_s))
  end
end
