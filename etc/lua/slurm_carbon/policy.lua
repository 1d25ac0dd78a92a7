--- policy: may this job move, where to, how far, and is it worth it

local M = ...
local policy, units = M.policy, M.units
local floor, ceil, huge, max, min = math.floor, math.ceil, math.huge, math.max, math.min
local concat, format = table.concat, string.format

local LIKE_HOME = 0.95 -- of nodes that are sold as equal, some report a little less memory
policy.TOO_LATE = "the time it must be done by, which its time limit would pass even at once"

--- Whether the site lets this owner opt out.
function policy.may_opt_out(rules, owner, account)
  for _, who in ipairs(rules.opt_out) do
    if who == "everyone" or who == "user:" .. owner.name or who == "account:" .. account then return true end
  end
  return false
end

--- Why a job is submitted just as it was written, whatever it could save; nil if nothing speaks against it.
function policy.why_left_alone(job, owner, rules, partition)
  if job.fixed ~= "" then return job.fixed end
  for _, key in ipairs(rules.left_alone) do
    local kind, name = key:match("^(%l+):(.*)$")
    if kind == "user" and name == owner.name then return "the site leaves user " .. name .. " alone" end
    if kind == "account" and name == job.account then return "the site leaves account " .. name .. " alone" end
    if kind == "partition" and name == partition then return "the site leaves partition " .. name .. " alone" end
    if kind == "qos" and name == job.qos then return "the site leaves QOS " .. name .. " alone" end
  end
  if job.unlimited then return "the job has no time limit, so its end is not known" end
  return nil
end

--- When a job may start: earliest, latest, and what set the latest.
function policy.window(asked, rules, now, run_time_s)
  local delay_s, bound = rules.max_delay_s, nil
  if asked.max_delay_s then
    delay_s, bound = asked.max_delay_s, "the longest delay you allow"
  elseif asked.finish_by then
    delay_s = rules.max_delay_limit_s
  end
  if delay_s >= rules.max_delay_limit_s then
    delay_s, bound = rules.max_delay_limit_s, "the site's limit of " .. units.duration_text(rules.max_delay_limit_s)
  end
  local latest = now + delay_s
  if asked.finish_by and asked.finish_by - run_time_s <= latest then
    latest, bound = asked.finish_by - run_time_s, "the time it must be done by"
  end
  if latest < now then bound = policy.TOO_LATE end
  return max(now, latest), bound or "the site's " .. units.duration_text(rules.max_delay_s)
end

--- GPUs of a type (any, if empty) on one node of a shape.
function policy.gpu_count(shape, gpu_type)
  local count = 0
  local wanted = gpu_type ~= "" and "gpu:" .. gpu_type or "gpu"
  for _, pair in ipairs(shape.gres) do
    if pair[1] == wanted or (gpu_type == "" and pair[1]:sub(1, 4) == "gpu:") then count = count + pair[2] end
  end
  return count
end

function policy.gres_of(shape, name)
  local count = 0
  for _, pair in ipairs(shape.gres) do
    if pair[1] == name or pair[1]:sub(1, #name + 1) == name .. ":" then count = count + pair[2] end
  end
  return count
end

function policy.node_fits(job, shape)
  local cpus = (job.nodes > 1 or job.max_nodes == 1) and ceil(job.cpus / job.nodes) or 1
  local memory = job.memory_mb_per_node or (job.memory_mb_per_cpu and job.memory_mb_per_cpu * cpus)
  if shape.cpus < cpus or (memory and shape.memory_mb < memory) then return false end
  for _, feature in ipairs(job.features) do
    if not shape.features[feature] then return false end
  end
  if job.gpus > 0 and policy.gpu_count(shape, job.gpu_type) == 0 then return false end
  for _, pair in ipairs(job.gres_per_node) do
    if policy.gres_of(shape, pair[1]) < pair[2] then return false end
  end
  return true
end

--- How many array tasks run at a time in a partition that is empty, and in how many waves.
function policy.in_waves(job, partition)
  if job.array_tasks == 1 then return 1, job.array_waves end
  local whole_nodes, room = job.exclusive or partition.whole_nodes or job.nodes > 1, 0
  for _, shape in ipairs(partition.shapes) do
    if policy.node_fits(job, shape) then
      room = room + shape.nodes * (whole_nodes and 1 or policy.tasks_on(job, shape))
    end
  end
  if whole_nodes then room = floor(room / job.nodes) end
  local together = max(1, min(job.array_tasks, room))
  return together, ceil(job.array_tasks * job.array_waves / together)
end

--- Array tasks of one node each that a node of a shape runs at a time.
function policy.tasks_on(job, shape)
  local memory_mb = job.memory_mb_per_node or 0
  if memory_mb == 0 then memory_mb = (job.memory_mb_per_cpu or 0) * job.cpus end
  return min(floor(shape.cpus / job.cpus), memory_mb > 0 and floor(shape.memory_mb / memory_mb) or shape.cpus,
    job.gpus > 0 and floor(policy.gpu_count(shape, job.gpu_type) / job.gpus) or shape.cpus)
end

function policy.is_named(location, names)
  for _, name in ipairs(names) do
    if name == location.name or name == location.cluster or name == location.zone.name then return true end
  end
  return false
end

--- Why a job cannot or may not run at a location; nil if it can. `home` is where plain sbatch would run it.
function policy.why_not_there(job, owner, asked, rules, location, partition, cluster, home, home_cluster)
  if not partition or not cluster then return "Slurm knows no partition " .. location.name end
  if asked.locations and not policy.is_named(location, asked.locations) then return "not among the locations you named" end
  if partition.cluster ~= home.cluster then
    if #job.clusters > 0 and not units.set(job.clusters)[partition.cluster] then
      return format("--clusters=%s was given", concat(job.clusters, ","))
    end
    if job.tied ~= "" then return job.tied end
    if not rules.move_clusters then return "the site moves no jobs between clusters" end
    if cluster.filesystem == "" or cluster.filesystem ~= home_cluster.filesystem then
      return "does not share files with " .. home.cluster
    end
  end
  if partition.name ~= home.name then
    if #job.partitions > 0 then return format("--partition=%s was given", concat(job.partitions, ",")) end
    if job.tied ~= "" then return job.tied end
    if partition.cluster == home.cluster and not rules.move_partitions then return "the site moves no jobs between partitions" end
  end
  return policy.not_admitted(job, owner, partition) or policy.does_not_fit(job, partition, cluster)
    or policy.less_memory(job, partition, home) or policy.less_time(job, partition, home)
    or policy.no_place_for_it(job, partition, home)
end

--- slurmctld says itself which partitions are open to the groups of an owner: `owner.open`.
function policy.in_groups(owner, partition)
  if owner.open and owner.open[partition.cluster .. "/" .. partition.name] then return true end
  for group in pairs(partition.allow_groups) do
    if owner.groups and owner.groups[group] then return true end
  end
  return false
end

function policy.not_admitted(job, owner, partition)
  if not partition.up then return "the partition is not up" end
  if partition.needs_reservation then return "only for jobs with a reservation" end
  if owner.is_root then return nil end
  if partition.root_only then return "only for root" end
  if partition.allow_groups and not policy.in_groups(owner, partition) then return "not for the groups of " .. owner.name end
  local account, qos, allowed = job.account, job.qos, partition.allow_accounts
  if account ~= "" and (partition.deny_accounts[account] or (allowed and not allowed[account])) then
    return "not for account " .. account
  end
  if account == "" and allowed then return "only for some accounts, and no --account was given" end
  local named = qos ~= "" and qos or "normal"
  if (qos ~= "" and partition.deny_qos[qos]) or (partition.allow_qos and not partition.allow_qos[named]) then
    return "not for QOS " .. named
  end
  return nil
end

--- CPUs of a node that a job which asks for memory by the CPU finds memory for.
function policy.usable_cpus(job, shape)
  if (job.memory_mb_per_cpu or 0) == 0 then return shape.cpus end
  return min(shape.cpus, floor(shape.memory_mb / job.memory_mb_per_cpu))
end

function policy.does_not_fit(job, partition, cluster)
  if job.time_limit_s and partition.max_time_s and job.time_limit_s > partition.max_time_s then
    return format("time limit %s, at most %s there", units.duration_text(job.time_limit_s),
      units.duration_text(partition.max_time_s))
  end
  if partition.max_nodes and job.nodes > partition.max_nodes then
    return format("%.0f nodes, at most %.0f there", job.nodes, partition.max_nodes)
  end
  if job.max_nodes and job.max_nodes < partition.min_nodes then
    return format("%.0f nodes, at least %.0f there", job.max_nodes, partition.min_nodes)
  end
  for _, pair in ipairs(job.licenses) do
    local has = cluster.licenses[pair[1]] or 0
    if has < pair[2] then return format("%.0f licences %s, %.0f there", pair[2], pair[1], has) end
  end
  local nodes, cpus, gpus = 0, 0, 0
  for _, shape in ipairs(partition.shapes) do
    if policy.node_fits(job, shape) then
      nodes, cpus = nodes + shape.nodes, cpus + shape.nodes * policy.usable_cpus(job, shape)
      if job.gpus > 0 then gpus = gpus + shape.nodes * policy.gpu_count(shape, job.gpu_type) end
    end
  end
  if nodes < job.nodes or cpus < job.cpus then
    return format("%.0f nodes and %.0f CPUs are needed, %.0f and %.0f there are of a kind that fits", job.nodes, job.cpus,
      nodes, cpus)
  end
  if gpus < job.gpus then return format("%.0f fitting GPUs there, %.0f are needed", gpus, job.gpus) end
  return nil
end

--- MB on the smallest node for a job that asks for none: by default, else its cores' share of the node.
function policy.memory_given(job, partition)
  local cpus, least = ceil(job.cpus / job.nodes), huge
  local whole_nodes = job.exclusive or partition.whole_nodes
  if not whole_nodes then
    if (partition.default_mb_per_node or 0) > 0 then return partition.default_mb_per_node end
    if (partition.default_mb_per_cpu or 0) > 0 then return partition.default_mb_per_cpu * cpus end
  end
  for _, shape in ipairs(partition.shapes) do
    if policy.node_fits(job, shape) then
      least = min(least, whole_nodes and shape.memory_mb or shape.memory_mb * min(1.0, cpus / shape.cpus))
    end
  end
  return least < huge and least or 0
end

function policy.less_memory(job, partition, home)
  if job.memory_mb_per_node or job.memory_mb_per_cpu or partition == home then return nil end
  local there_mb, home_mb = policy.memory_given(job, partition), policy.memory_given(job, home)
  if there_mb >= home_mb * LIKE_HOME then return nil end
  return format("%.3g GB of memory on a node there, %.3g GB at home, and no --mem was given", there_mb / 1024, home_mb / 1024)
end

--- A job that asks for no time gets what is the partition's default, and would be ended earlier than at home.
function policy.less_time(job, partition, home)
  local there_s = partition.default_time_s or partition.max_time_s
  if job.time_limit_s or not home.default_time_s or not there_s or there_s >= home.default_time_s then return nil end
  return format("time limit %s there, %s at home, and no --time was given", units.duration_text(there_s),
    units.duration_text(home.default_time_s))
end

function policy.all_have_gpus(partition)
  for _, shape in ipairs(partition.shapes) do
    if policy.gpu_count(shape, "") == 0 then return false end
  end
  return true
end

--- A job is to keep no GPUs from others, and its array tasks are not to take longer because fewer of them run at a time.
function policy.no_place_for_it(job, partition, home)
  if job.gpus == 0 and policy.all_have_gpus(partition) and not policy.all_have_gpus(home) then
    return "all nodes there have GPUs, and it needs none"
  end
  if job.array_tasks == 1 then return nil end
  local _, there = policy.in_waves(job, partition)
  local _, here = policy.in_waves(job, home)
  return there > here and format("its tasks would run in %.0f rounds there, in %.0f at home", there, here) or nil
end

--- Mean power in W of all array tasks together, PUE included: the twin of estimate/power.py.
function policy.power_w(job, array_tasks, location, partition, home)
  local nodes = partition.nodes > 0 and partition.nodes or 1
  local cpus_per_node, memory_mb_per_node = partition.cpus / nodes, partition.memory_mb / nodes
  local cpus, memory_mb = job.cpus, 0
  if job.exclusive or partition.whole_nodes then
    cpus = max(cpus, job.nodes * cpus_per_node)
    memory_mb = max(job.nodes, cpus_per_node > 0 and cpus / cpus_per_node or 0) * memory_mb_per_node
  elseif job.memory_mb_per_node then
    memory_mb = job.nodes * (job.memory_mb_per_node > 0 and job.memory_mb_per_node or memory_mb_per_node)
  elseif job.memory_mb_per_cpu then
    memory_mb = cpus * job.memory_mb_per_cpu
  elseif home.default_mb_per_node then
    memory_mb = job.nodes * home.default_mb_per_node
  elseif home.default_mb_per_cpu then
    memory_mb = cpus * home.default_mb_per_cpu
  elseif home.cpus > 0 then
    memory_mb = cpus * home.memory_mb / home.cpus
  end
  local one_task_w = (cpus * location.watts_per_core + job.gpus * location.watts_per_gpu + memory_mb / 1024 * location.watts_per_gb)
    * location.pue
  return one_task_w * array_tasks
end

--- Whether a placement saves enough against another; a delay's saving counts by what forecasts have captured.
function policy.worth(new, old, rules, captured)
  local saving = (old.emissions_g - new.emissions_g) * (captured or 1)
  return new.cost_g < old.cost_g and saving >= max(rules.min_saving_g, old.emissions_g * rules.min_saving_pct / 100)
end

--- The placement to take, or nil and the reason why the job stays as it was written.
function policy.choose(baseline, at_once, best, rules)
  local now = baseline
  for i, placed in ipairs(at_once) do
    if i == 1 or placed.cost_g < now.cost_g then now = placed end
  end
  if not policy.worth(now, baseline, rules) then now = baseline end
  local by_cost = {}
  for i, placed in ipairs(best) do by_cost[i] = placed end
  if #by_cost == 0 then by_cost[1] = baseline end
  for i = 2, #by_cost do -- a stable sort: of equals the first stays first
    local placed, at = by_cost[i], i
    while at > 1 and placed.cost_g < by_cost[at - 1].cost_g do
      by_cost[at] = by_cost[at - 1]
      at = at - 1
    end
    by_cost[at] = placed
  end
  for _, later in ipairs(by_cost) do
    if policy.worth(later, now, rules, later.location.zone.captured) then return later, "" end
  end
  if now ~= baseline then return now, "" end
  local zone = by_cost[1].location.zone
  local saving = max(0, baseline.emissions_g - by_cost[1].emissions_g)
  local counts = ""
  if zone.captured < 1 then
    counts = format(", of which forecasts of %s have captured %.0f %%", zone.name, 100 * zone.captured)
  end
  return nil, format("no choice saves enough: %s (%.1f %%) at best%s; the site asks for %s and %g %%", units.mass_text(saving),
    baseline.emissions_g > 0 and 100 * saving / baseline.emissions_g or 0, counts, units.mass_text(rules.min_saving_g),
    rules.min_saving_pct)
end
