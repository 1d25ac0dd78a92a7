--- client: the hook in the user's sbatch (cli_filter)

local M = ...
local client, units, outlook, wishes = M.client, M.units, M.outlook, M.wishes
local jobs, decide, record, hook = M.jobs, M.decide, M.record, M.hook
local format = string.format

local ESCAPES = {n = "\n", t = "\t", r = "\r", b = "\b", f = "\f"}

--- A text in quotes that begins at a position of a JSON document, and the position behind it.
function client.json_text(json, at)
  local to = at
  repeat
    to = json:find('["\\]', to + 1)
    local escaped = to and json:sub(to, to) == "\\"
    if escaped then to = to + 1 end
  until not escaped
  local text = json:sub(at + 1, (to or #json) - 1):gsub("\\u%x%x%x%x", "?")
  return text:gsub("\\(.)", function(c) return ESCAPES[c] or c end), (to or #json) + 1
end

--- The texts of a flat JSON object by name, as slurm.json_cli_options prints it, and those of its one list.
function client.options_of(json)
  local options, words, at = {}, {}, json:find('"', 1, true)
  while at do
    local name, value
    name, at = client.json_text(json, at)
    at = json:find("[^%s:]", at)
    if json:sub(at, at) == "[" then
      at = at + 1
      while json:find('^[%s,]*"', at) do
        words[#words + 1], at = client.json_text(json, json:find('"', at, true))
      end
    else
      value, at = client.json_text(json, at)
      options[name] = value
    end
    at = json:find('"', at, true)
  end
  return options, words
end

--- The beginning of a script; nil where it cannot be read without taking anything from sbatch, as on stdin.
function client.script_of(path)
  if not path or path:find("^/dev/") or path:find("^/proc/") then return nil end
  local file, _, code = outlook.open(path)
  if not file and code == 13 then file = io.open(path, "r") end
  if not file then return nil end
  local text = file:seek("end") and file:seek("set", 0) and file:read(M.SCRIPT_BYTES)
  file:close()
  return text
end

--- Whether sbatch was given several components, or the script has them.
function client.is_heterogeneous(words)
  local file = io.open("/proc/self/cmdline", "r")
  local line = file and file:read(M.SCRIPT_BYTES) or ""
  if file then file:close() end
  local set = units.set(words)
  return line:find("%z:%z") ~= nil or set.hetjob or set.packjob
end

--- What slurmctld's hook would not know of a job: what it has to leave alone, and what its environment would say.
-- It sees neither these options nor, without the user's environment, any CSBATCH_* variable.
function client.hidden(given)
  local options = given.deadline or given.wait or given["cluster-constraint"]
  return not given.begin and options ~= nil, given.export ~= nil and not units.set(units.names(given.export)).ALL
end

--- Who submits, as far as that can be known here; nil where a rule of the site may depend on what cannot.
function client.owner(job, o)
  local file = io.open("/proc/self/status", "r")
  local uid = file and file:read(4096):match("\nUid:%s+(%d+)")
  if file then file:close() end
  local name = os.getenv("USER") or os.getenv("LOGNAME")
  if not uid or not name then return nil end
  if job.account == "" or job.qos == "" then
    for key in pairs(o.hook) do
      if key:find("^account:") or key:find("^qos:") then return nil end
    end
    for _, list in ipairs({o.policy.left_alone, o.policy.opt_out}) do
      for _, key in ipairs(list) do
        if key:find("^account:") or key:find("^qos:") then return nil end
      end
    end
  end
  return {name = name, is_root = uid == "0", open = {}}
end

--- Decide on a job as its user, and set what slurmctld's hook could not: another cluster or, if it is `blind`, all but that.
-- Both clusters are named, and their hooks will steer: if the other is away or does not take the job, it stays at home.
function client.place(options, given, in_script, wrong, o, now, blind)
  local cluster, job = slurm.CLUSTER_NAME or "", jobs.of_options(given)
  local owner, home = client.owner(job, o), decide.home_of(job, o, cluster)
  if not owner or not home then return end
  owner.open[home.cluster .. "/" .. home.name] = true
  local mode = hook.mode(o, owner.name, job.account, job.qos, job.partitions[1], cluster)
  if mode ~= "enforce" and mode ~= "advise" then return end
  local ruled_out
  if blind or not o.client_moves or hook.federation(o, cluster) ~= "" then
    ruled_out = hook.out_of_reach(o, cluster, "", "the client moves it to no other cluster")
  end
  for _, location in ipairs(blind and o.locations or {}) do
    if location.partition ~= home.name then ruled_out[location.name] = "the client moves it to no other partition" end
  end
  local asked = hook.asked(os.getenv, in_script, wrong, job, owner, o, now)
  local decision = decide.decide(job, owner, asked, o, cluster, now, ruled_out)
  local chosen = decision.chosen
  if chosen and chosen.location.cluster ~= (job.clusters[1] or cluster) then
    if mode == "enforce" then
      options.clusters = cluster .. "," .. chosen.location.cluster
    else
      slurm.log_info("%s", "slurm-carbon: " .. record.line(decision, true))
    end
  elseif blind and mode == "enforce" then
    local changes = chosen and hook.changes(chosen, now, job, o, cluster) or {}
    local comment = chosen and record.comment(job.comment, decision, o)
    if comment then options.comment = comment end
    if changes.begin or not given.begin then options.begin = changes.begin and format("uts%.0f", changes.begin) or "now" end
    if job.wants_words then slurm.log_info("%s", "slurm-carbon: " .. record.line(decision)) end
  end
end

--- One submission in the user's sbatch. The begin time `now` makes slurmctld's hook leave a job alone.
function client.on_pre_submit(settings, options, offset)
  if options["type"] ~= "sbatch" or (offset or 0) ~= 0 then return end
  local given, argv = client.options_of(slurm.json_cli_options(options))
  local now, script = os.time(), ""
  if not given.wrap then script = client.script_of(argv[1]) end
  local in_script, words, wrong = wishes.of_script(script or "", now)
  if given["test-only"] or client.is_heterogeneous(words) then return end
  local hidden, blind = client.hidden(given)
  if hidden then options.begin = "now" end
  if hidden or hook.is_decided(os.getenv) or hook.is_stopped(settings.outlook) then return end
  if not script and not blind then return end -- what it asks for is not known here; slurmctld will read it
  local o = hook.outlook(settings.outlook, now, function(path) return io.open(path, "r") end)
  client.place(options, given, in_script, wrong, o, now, blind)
end

--- Call from the end of cli_filter.lua.
function client.install(settings)
  local site = slurm_cli_pre_submit
  function slurm_cli_pre_submit(options, offset)
    local code = slurm.SUCCESS
    if site then code = site(options, offset) end
    if code == nil or code == slurm.SUCCESS then pcall(client.on_pre_submit, settings, options, offset) end
    return code
  end
  for _, name in ipairs({"slurm_cli_setup_defaults", "slurm_cli_post_submit"}) do
    if not _G[name] then _G[name] = function() return slurm.SUCCESS end end
  end
end
