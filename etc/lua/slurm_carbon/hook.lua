--- hook: what Slurm calls

local M = ...
local hook, units, outlook, wishes = M.hook, M.units, M.outlook, M.wishes
local jobs, policy, decide, record = M.jobs, M.policy, M.decide, M.record
local huge, max, min = math.huge, math.max, math.min
local format = string.format
local plain = record.plain

local SAY_AGAIN_S = 60
hook.state = {said = {}, said_at = {}}
local state = hook.state

--- One line in the log for each kind of trouble, until it has changed or is over, and not more than one a minute.
function hook.say(kind, text, now)
  if state.said[kind] == text or now - (state.said_at[kind] or -huge) < SAY_AGAIN_S then return end
  state.said[kind], state.said_at[kind] = text, now
  slurm.log_error("%s", "slurm-carbon: " .. plain(text))
end

--- Say that a trouble is over, if there was one.
function hook.over(kind, text)
  if not state.said[kind] then return end
  state.said[kind], state.said_at[kind] = nil, nil
  slurm.log_info("%s", "slurm-carbon: " .. text)
end

--- Say what has gone wrong; the job goes on as it is.
function hook.trouble(problem)
  local now = os.time()
  if type(problem) == "table" and problem.outlook then
    hook.say("outlook", "no job is placed: outlook " .. state.path .. ": " .. problem.outlook, now)
  else
    local text = type(problem) == "table" and problem.mistake or tostring(problem)
    hook.say("error", "jobs are left as they are: " .. text, now)
  end
end

--- Whether an operator has touched the file `stop` beside the outlook.
function hook.is_stopped(path)
  local file, _, code = outlook.open(path:gsub("[^/]*$", "") .. "stop")
  if file then file:close() end
  return code ~= 2 -- no such file; what cannot be opened is there
end

--- The outlook of now. Raises what is wrong with it.
function hook.outlook(path, now, open)
  state.path = path
  state.seen = outlook.read(path, state.seen, open)
  if state.seen.problem then outlook.broken("%s", state.seen.problem) end
  outlook.check_age(state.seen.outlook, now)
  hook.over("outlook", "jobs are placed again: the outlook is good")
  return state.seen.outlook
end

--- What is done with the jobs of this user, account, QOS and partition: the first of them that has a mode, else the site's.
function hook.mode(o, user, account, qos, partition, cluster)
  partition = partition or (o.defaults[cluster] or {}).name or ""
  return o.hook["user:" .. user] or o.hook["account:" .. account] or o.hook["qos:" .. qos] or o.hook["partition:" .. partition]
    or o.hook.mode
end

--- Whether csbatch has decided on this very submission: its word holds for the shell or job that it was given in.
function hook.is_decided(get) return get("SLURM_CARBON_DECIDED") == (get("SLURM_JOB_ID") or "0") end

--- Why locations of other clusters are out of reach, by name, besides what is ruled out already: all of them, or those that
-- are not in the same federation.
function hook.out_of_reach(o, cluster, federation, why, already)
  local ruled_out = {}
  for name, reason in pairs(already or {}) do ruled_out[name] = reason end
  for _, location in ipairs(o.locations) do
    local other = o.clusters[location.cluster]
    if location.cluster ~= cluster and (federation == "" or not other or other.federation ~= federation) then
      ruled_out[location.name] = why
    end
  end
  return ruled_out
end

function hook.federation(o, cluster) return o.clusters[cluster] and o.clusters[cluster].federation or "" end

--- What has to be set so that a placement is carried out by the slurmctld or sbatch of a cluster.
function hook.changes(chosen, now, job, o, cluster)
  local where, changes = chosen.location, {}
  if chosen.start > now then changes.begin = chosen.start end
  if where.cluster ~= cluster then changes.clusters = where.cluster end
  local default = o.defaults[where.cluster]
  if #job.partitions == 0 and not (default and default.name == where.partition) then changes.partition = where.partition end
  return changes
end

--- What is offered to `sbatch -M` or a federation, which take the earliest start, by a cluster that is not the chosen one.
function hook.offer(decision, chosen, cluster)
  local begin = chosen.start + M.STEER_S
  for _, alternative in ipairs(decision.alternatives) do
    local placed = alternative.best
    if placed and placed.location.cluster == cluster then begin = max(begin, min(placed.start, decision.latest)) end
  end
  return {begin = begin}
end

--- What carries a placement out in a federation. Copies of a job would be started by what each cluster's own hook says of them:
-- so they are only there where it was chosen and, in case that one refuses it, here, where it would start later.
function hook.federated_changes(decision, chosen, now, job, o, cluster)
  if chosen.location.cluster == cluster then
    local changes = hook.changes(chosen, now, job, o, cluster)
    changes.clusters = cluster
    return changes
  end
  local changes = hook.offer(decision, chosen, cluster)
  changes.clusters = chosen.location.cluster .. "," .. cluster
  return changes
end

--- Decide on a job that slurmctld describes, but for what the partitions of now say. Returns the decision and what to set.
function hook.decide(job, owner, asked, o, cluster, now, ruled_out)
  local several = #job.clusters > 1 or job.clusters[1] == "all"
  local federation = hook.federation(o, cluster)
  local why = "slurmctld can give jobs only to clusters of its federation"
  if job.is_copy then
    job.clusters, several, federation, why = {}, false, "", "its cluster was chosen where it was submitted"
  elseif federation ~= "" and owner.is_root then -- the other clusters could not tell its copies from components of a job
    job.fixed = job.fixed == "" and "root's jobs are left alone in a federation" or job.fixed
  elseif federation ~= "" and job.is_array then
    federation, why = "", "the arrays of a federation stay where they are submitted"
    if several and job.fixed == "" then job.fixed = jobs.SEVERAL end
  end
  if several and job.fixed == "" then return hook.steer(job, owner, asked, o, cluster, now, federation ~= "", ruled_out) end
  local decision = decide.decide(job, owner, asked, o, cluster, now, hook.out_of_reach(o, cluster, federation, why, ruled_out))
  local chosen = decision.chosen
  if federation == "" then return decision, chosen and hook.changes(chosen, now, job, o, cluster) or {} end
  if not chosen then return decision, {clusters = decision.baseline and asked.locations and cluster} end

  if chosen.location.cluster ~= cluster then
    -- the hook of the other cluster will see only what was submitted: what it will make of it is what counts
    local copy, target = setmetatable({clusters = {}}, {__index = job}), chosen.location.cluster
    local there = decide.decide(copy, owner, asked, o, target, now, hook.out_of_reach(o, target, "", why))
    local placed = there.chosen or there.baseline
    if placed and policy.worth(placed, decision.baseline, o.policy, placed.start > now and placed.location.zone.captured) then
      decision.chosen = placed
    else
      decision = decide.decide(job, owner, asked, o, cluster, now, hook.out_of_reach(o, cluster, "", why, ruled_out))
    end
    chosen = decision.chosen
  end
  return decision, chosen and hook.federated_changes(decision, chosen, now, job, o, cluster) or {}
end

local UNLIMITED = units.set({0, 4294967294, 4294967295})
local LIMITS = {"max_cpus_per_node", "max_mem_per_cpu", "max_mem_per_node", "max_cpus_per_socket", "qos_char", "allow_alloc_nodes"}

--- Why the partition that slurmctld has at this moment would not take a job which `home` would take: nil if it would. The outlook
-- may be hours old, and does not know these limits: where there is one that home does not have, the job is not moved.
function hook.why_not_now(job, there, home)
  if not there or not home then return "slurmctld does not list it for this user" end
  if there.state_up ~= 3 then return "the partition is not up" end
  if there.max_time and not UNLIMITED[there.max_time] and (job.time_limit_s or 0) > there.max_time * 60 then
    return "its time limit has become shorter"
  end
  for _, name in ipairs(LIMITS) do
    local limit = there[name]
    if limit ~= nil and not UNLIMITED[limit] and limit ~= home[name] then
      return "it has a limit that home does not have: " .. name
    end
  end
  return nil
end

--- The same as `decide`, with every partition of this cluster that is chosen looked at as it is now.
function hook.decide_now(job, owner, asked, o, cluster, now, partitions)
  local ruled_out, home = {}, job.partitions[1]
  for name, partition in pairs(home and {} or partitions or {}) do
    if partition.flag_default == 1 then home = name end
  end
  for _ = 0, #o.locations do -- each time one less
    local decision, changes = hook.decide(job, owner, asked, o, cluster, now, ruled_out)
    local why = changes.partition and hook.why_not_now(job, (partitions or {})[changes.partition], (partitions or {})[home])
    if not why then return decision, changes end
    ruled_out[cluster .. "/" .. changes.partition] = why
  end
  return {reason = "no partition would take it now"}, {}
end

--- The clusters of the outlook that a list of names stands for, sorted; nil where one is not in it.
function hook.named_clusters(names, o)
  local found, all = {}, names[1] == "all"
  for name in pairs(o.clusters) do
    if all or units.set(names)[name] then found[#found + 1] = name end
  end
  table.sort(found)
  return #found > 1 and (all or #found == #names) and found or nil
end

--- `sbatch -M a,b,c` asks the hook of each cluster and takes the earliest start: all of them make the same choice, and all but
-- the chosen one offer to start after it. What counts as plain sbatch is the cleanest of them at once.
function hook.steer(job, owner, asked, o, cluster, now, federated, ruled_out)
  local named = hook.named_clusters(job.clusters, o)
  if not named then return {reason = jobs.SEVERAL}, {} end
  local from, dirtiest
  for _, name in ipairs(named) do
    local home = decide.decide(setmetatable({clusters = {name}}, {__index = job}), owner, asked, o, name, now)
    if not home.baseline then return home, {} end
    if not from or home.baseline.cost_g < from.cost_g then from = home.baseline end
    if not dirtiest or home.baseline.cost_g > dirtiest.cost_g then dirtiest = home.baseline end
  end
  local order = {from.location.cluster}
  for _, name in ipairs(named) do
    if name ~= order[1] then order[#order + 1] = name end
  end
  local ordered = setmetatable({clusters = order}, {__index = job})
  local decision = decide.decide(ordered, owner, asked, o, order[1], now, ruled_out)
  local chosen = decision.chosen or (policy.worth(decision.baseline, dirtiest, o.policy) and decision.baseline)
  if not chosen then return decision, {} end
  decision.chosen, decision.reason = chosen, ""
  if federated then return decision, hook.federated_changes(decision, chosen, now, job, o, cluster) end
  if chosen.location.cluster == cluster then return decision, hook.changes(chosen, now, job, o, cluster) end
  local offer = hook.offer(decision, chosen, cluster)
  decision.chosen, decision.reason = nil, format("of the clusters named, %s is better", chosen.location.cluster)
  return decision, offer
end

--- Who submits, by what slurmctld says; it lists the partitions of its own that are open to his groups.
function hook.owner(description, partitions, cluster)
  local owner = {name = description.user_name or "", is_root = description.user_id == 0, open = {}}
  for name in pairs(partitions or {}) do owner.open[cluster .. "/" .. name] = true end
  return owner
end

--- What the owner asks for, in the environment and in the script. Raises a mistake.
function hook.asked(get, in_script, wrong, job, owner, o, now)
  local of_environment = wishes.of_environment(get, now)
  if wrong then units.mistake(wrong) end
  local asked = wishes.merged(of_environment, in_script)
  if asked.off and not policy.may_opt_out(o.policy, owner, job.account) then asked.off = nil end
  job.wants_words = asked.verbose or asked.explain
  return asked
end

-- sbatch's variables for options that are no fields of a job
local SHOWN_ELSEWHERE = {SBATCH_DEADLINE = "--deadline", SBATCH_WAIT = "--wait",
  SBATCH_CLUSTER_CONSTRAINT = "--cluster-constraint"}

--- One submission, as slurmctld describes it.
function hook.on_submit(settings, description, partitions, submit_uid)
  local script = description.script
  if not script then return end -- srun, salloc: somebody is waiting
  local now, cluster = os.time(), slurm.CLUSTER_NAME
  if hook.is_stopped(settings.outlook) then
    hook.say("stop", "no job is placed: there is a file `stop` beside the outlook", now)
    return
  end
  hook.over("stop", "jobs are placed again: the file `stop` is gone")
  local o = hook.outlook(settings.outlook, now)
  local owner = hook.owner(description, partitions, cluster)
  local mode = hook.mode(o, owner.name, description.account or description.default_account or "",
    description.qos or description.default_qos or "", units.names(description.partition)[1], cluster)
  if mode == "off" then return end

  local variables = description.environment
  local function get(name) return variables and variables[name] end
  local offset = jobs.value(description.het_job_offset)
  local is_copy = hook.federation(o, cluster) ~= "" and offset == 0 and submit_uid ~= description.user_id
  local job, decision, changes = {}, nil, {}
  local ok, problem = pcall(function()
    units.abroad = (get("TZ") or "") ~= "" and get("TZ") ~= os.getenv("TZ")
    local in_script, words, wrong = wishes.of_script(script:sub(1, M.SCRIPT_BYTES), now)
    for name, option in pairs(SHOWN_ELSEWHERE) do
      if get(name) then words[#words + 1] = option end
    end
    job = jobs.of_description(description, words)
    job.is_copy, job.is_array = is_copy, description.array_inx ~= nil
    if offset and not is_copy then job.fixed = jobs.FIXED_BY["het-job"] end
    local asked = hook.asked(get, in_script, wrong, job, owner, o, now)
    if hook.is_decided(get) then job.fixed, job.wants_words = "csbatch has decided", nil end -- and has said what it had to say
    decision, changes = hook.decide_now(job, owner, asked, o, cluster, now, partitions)
  end)
  if not ok then
    if type(problem) ~= "table" or not problem.mistake then error(problem, 0) end
    decision, job.wants_words = {reason = problem.mistake}, true
  end
  hook.apply(description, decision, changes, job, mode, o, now)
end

--- Set the fields of a job, as far as its mode allows, and leave the record.
function hook.apply(description, decision, changes, job, mode, o, now)
  local json = record.json(decision, mode, o, now)
  local line = (mode == "advise" or (mode == "enforce" and job.wants_words)) and record.line(decision, mode == "advise")
  local comment = mode == "enforce" and decision.chosen and record.comment(job.comment, decision, o)
  if (description.admin_comment or "") == "" then description.admin_comment = json end
  if mode == "enforce" then
    if changes.begin then description.begin_time = changes.begin end
    if changes.partition then description.partition = changes.partition end
    if changes.clusters then description.clusters = changes.clusters end
    if comment then description.comment = comment end
  end
  if line then slurm.log_user("%s", "slurm-carbon: " .. line) end
end

--- Call from the end of job_submit.lua: what the site's own script accepts is placed afterwards.
function hook.install(settings)
  local site = slurm_job_submit
  function slurm_job_submit(description, partitions, submit_uid)
    local code = slurm.SUCCESS
    if site then code = site(description, partitions, submit_uid) end
    if code == nil or code == slurm.SUCCESS then
      local ok, problem = pcall(hook.on_submit, settings, description, partitions, submit_uid)
      if not ok then pcall(hook.trouble, problem) end
    end
    return code
  end
  if not slurm_job_modify then
    function slurm_job_modify() return slurm.SUCCESS end
  end
  pcall(slurm.log_info, "%s", format("slurm-carbon: %s is loaded, and reads %s", M.VERSION, settings.outlook))
end
