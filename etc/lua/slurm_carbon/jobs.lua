--- jobs: what is submitted, from what slurmctld or sbatch knows of it

local M = ...
local jobs, units = M.jobs, M.units
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local format = string.format

local LIST_LIMIT = 100
local TIED = {"nodelist", "nodefile", "exclude", "bb", "bbf", "cluster-constraint", "batch", "switches", "mcs-label",
  "ntasks-per-gpu", "ntasks-per-socket", "ntasks-per-core", "sockets-per-node", "cores-per-socket", "threads-per-core",
  "extra-node-info", "contiguous", "core-spec", "thread-spec", "tmp", "mincpus", "mem-per-gpu", "gpus-per-socket",
  "tres-per-task", "distribution"}
-- the same as fields of slurmctld
local TIED_BY_TEXT = {{"req_nodes", "nodelist"}, {"exc_nodes", "exclude"}, {"burst_buffer", "bb"}, {"batch_features", "batch"},
  {"mcs_label", "mcs-label"}, {"mem_per_tres", "mem-per-gpu"}}
local TIED_BY_NUMBER = {{"req_switch", "switches"}, {"ntasks_per_socket", "ntasks-per-socket"},
  {"ntasks_per_core", "ntasks-per-core"}, {"sockets_per_node", "sockets-per-node"}, {"cores_per_socket", "cores-per-socket"},
  {"threads_per_core", "threads-per-core"}, {"pn_min_tmp_disk", "tmp"}, {"plane_size", "distribution"},
  {"contiguous", "contiguous"}}
local HIDDEN = {"deadline", "wait", "cluster-constraint"} -- that are no fields of it
local FIXED = {
  {"begin", "--begin was given"},
  {"hold", "--hold was given"},
  {"deadline", "--deadline was given: a later begin could get the job cancelled"},
  {"dependency", "--dependency was given: when it may start is not known"},
  {"reservation", "--reservation was given"},
  {"wait", "--wait was given: somebody is waiting for it"},
  {"test-only", "--test-only submits nothing"},
  {"het-job", "a heterogeneous job: sbatch shows only its first component"},
}
jobs.FIXED_BY = {}
for _, pair in ipairs(FIXED) do jobs.FIXED_BY[pair[1]] = pair[2] end
jobs.SEVERAL = "several clusters were given: sbatch chooses the one that starts first"

--- A count as Slurm writes it, `4` or `2k`. Raises what it is if it is none.
function jobs.count(text)
  local digits, unit = text:match("^%s*(%d+)([kKmM]?)%s*$")
  if not digits then units.mistake(format("an option of sbatch has a form that is not known here ('%s')", text:sub(1, 40))) end
  return tonumber(digits) * (({k = 1024, m = 1024 * 1024})[unit:lower()] or 1)
end

--- Name (with type) and count of each of `gpu:a100:2,shard:1`, `gres:gpu:2`, `gres/gpu:2`, `matlab:3`.
function jobs.gres(text, prefix)
  local found = {}
  for _, item in ipairs(units.split(text or "", ",")) do
    item = item:gsub("^gres[:/]", ""):gsub("%(.*$", "")
    if item ~= "" and item ~= "none" then
      local name, last = item:match("^(.*):([^:]*)$")
      name, last = name or "", last or item
      local count = 1
      if last:find("^%d") then count = jobs.count(last) else name = item end
      found[#found + 1] = {((prefix or "") .. name):match("^.*[^:]") or "", count}
    end
  end
  return found
end

function jobs.is_gpu(name) return name == "gpu" or name:sub(1, 4) == "gpu:" end

--- The type in the first name that has one.
function jobs.gpu_type(counts)
  for _, pair in ipairs(counts) do
    if pair[1]:sub(1, 4) == "gpu:" then return pair[1]:sub(5) end
  end
  return nil
end

--- How many tasks `1-10:2,15%4` has, and how many of them may run together; 1 and 1 for no array.
function jobs.array(text)
  local list, throttle = (text or ""):match("^([^%%]*)%%?(.*)$")
  local total = 0
  for _, part in ipairs(units.names((list:match("^.*[^%[%]]") or ""):gsub("^[%[%]]+", ""))) do
    local bounds, step = part:match("^([^:]*):?(.*)$")
    local first, last = bounds:match("^([^%-]*)%-(.*)$")
    if first then
      total = total + floor((jobs.count(last) - jobs.count(first)) / (step ~= "" and jobs.count(step) or 1)) + 1
    else
      total = total + 1
    end
  end
  total = max(1, total)
  local limit = throttle ~= "" and jobs.count(throttle) or 0
  return total, limit > 0 and min(total, limit) or total
end

--- The features that are all needed, and whether that is all that the expression says.
function jobs.features(text)
  if (text or ""):find("[|%[%]%(%)%*]") then return {}, false end
  return units.names((text or ""):gsub("&", ",")), true
end

--- The fields that follow from amounts which both ways of reading a job find: tasks, nodes, GPUs, arrays.
function jobs.complete(job, counted)
  local gpus, gpu_type = 0, jobs.gpu_type(counted.gres)
  for _, pair in ipairs(counted.gres) do
    if jobs.is_gpu(pair[1]) then gpus = gpus + pair[2] end
  end
  gpus = gpus * job.nodes
  for _, kind in ipairs({{"per_node", job.nodes}, {"per_task", counted.tasks}, {"per_job", 1}}) do
    local list = counted[kind[1]]
    if list then
      gpus = 0
      for _, pair in ipairs(list) do gpus = gpus + pair[2] end
      gpus = gpus * kind[2]
      gpu_type = jobs.gpu_type(list) or gpu_type
    end
  end
  job.cpus = max(job.cpus, gpus * (counted.cpus_per_gpu or 0), job.nodes)
  job.gpus, job.gpu_type = gpus, gpu_type or ""
  local tasks, together = jobs.array(counted.array)
  job.array_tasks, job.array_waves = together, ceil(tasks / together)
  local simple
  job.features, simple = jobs.features(counted.constraint)
  if not simple and job.tied == "" then job.tied = format("--constraint=%s was given", counted.constraint) end
  for _, list in ipairs({job.features, job.licenses, job.gres_per_node}) do -- each is compared with every kind of node
    if #list > LIST_LIMIT then units.mistake("an option of sbatch lists too much to be looked at") end
  end
  return job
end

--- The job that a set of sbatch's options describes (long names, only those that were set). Raises a mistake.
function jobs.of_options(options)
  local job = {fixed = "", tied = ""}
  for _, pair in ipairs(FIXED) do
    if job.fixed == "" and options[pair[1]] then job.fixed = pair[2] end
  end
  for _, name in ipairs(TIED) do
    if job.tied == "" and options[name] then job.tied = format("--%s was given", name) end
  end
  job.clusters = units.names(options.clusters)
  if (#job.clusters > 1 or job.clusters[1] == "all") and job.fixed == "" then job.fixed = jobs.SEVERAL end

  local range = (options.nodes or ""):match("^[^:,]*")
  local low, dash, high = range:match("^([^%-]*)(%-?)(.*)$")
  job.nodes = low ~= "" and max(1, jobs.count(low)) or 1
  if dash == "-" and high ~= "" then
    job.max_nodes = jobs.count(high)
  elseif low ~= "" then
    job.max_nodes = job.nodes
  end
  local per_node = jobs.count(options["ntasks-per-node"] or "0")
  local tasks = options.ntasks and jobs.count(options.ntasks) or max(1, job.nodes * max(1, per_node))
  if per_node > 0 and not options.nodes then job.nodes = ceil(tasks / per_node) end
  job.cpus = options.overcommit and job.nodes or tasks * jobs.count(options["cpus-per-task"] or "1")

  local counted = {tasks = tasks, gres = jobs.gres(options.gres), array = options.array, constraint = options.constraint,
    cpus_per_gpu = jobs.count(options["cpus-per-gpu"] or "0"),
    per_node = options["gpus-per-node"] and jobs.gres(options["gpus-per-node"], "gpu:"),
    per_task = options["gpus-per-task"] and jobs.gres(options["gpus-per-task"], "gpu:"),
    per_job = options.gpus and jobs.gres(options.gpus, "gpu:")}
  job.gres_per_node = jobs.gres(options.gres)
  for _, pair in ipairs(counted.per_node or {}) do job.gres_per_node[#job.gres_per_node + 1] = pair end
  if options.time then
    local limit_s = units.slurm_duration_s(options.time)
    if limit_s == false then jobs.count(options.time) end
    job.time_limit_s, job.unlimited = limit_s, limit_s == nil or limit_s == 0
  end
  for name, field in pairs({mem = "memory_mb_per_node", ["mem-per-cpu"] = "memory_mb_per_cpu"}) do
    if options[name] then job[field] = units.memory_mb((options[name]:gsub("%?$", ""))) or jobs.count(options[name]) end
  end
  local exclusive = options.exclusive
  job.exclusive = exclusive ~= nil and exclusive ~= "user" and exclusive ~= "mcs"
  job.licenses = (options.licenses or ""):find("|", 1, true) and {} or jobs.gres(options.licenses)
  job.partitions = units.names(options.partition)
  job.account, job.qos, job.comment = options.account or "", options.qos or "", options.comment
  return jobs.complete(job, counted)
end

--- A number that was really set; Slurm has several for "not set".
function jobs.value(number)
  if type(number) ~= "number" or number == 65534 or number == 4294967294 or number >= 9e18 then return nil end
  return number
end

--- GPUs in one of slurmctld's lists of trackable resources, `gres:gpu:a100:2`, `gres/gpu:2` or `cpu=3,gres/gpu=2`.
function jobs.gpus_of(text)
  if not text then return nil end
  local found = {}
  for _, pair in ipairs(jobs.gres((text:gsub("=", ":")))) do
    if jobs.is_gpu(pair[1]) then found[#found + 1] = pair end
  end
  return found[1] and found or nil
end

--- The job that slurmctld describes to a submit plugin. Raises a mistake.
-- What is no field of it (--deadline, --wait, --cluster-constraint) is seen where it stands in the script or the environment;
-- on the command line only the cli_filter sees it.
function jobs.of_description(description, words)
  local value = jobs.value
  local job = {fixed = "", tied = "", clusters = units.names(description.clusters), nodes = value(description.min_nodes) or 1}
  local function fix(name) if job.fixed == "" then job.fixed = jobs.FIXED_BY[name] end end
  local begin = value(description.begin_time)
  if begin and begin ~= 0 then fix("begin") end
  if description.priority == 0 then fix("hold") end
  if description.dependency then fix("dependency") end
  if description.reservation then fix("reservation") end
  for _, word in ipairs(words) do
    local name = word:match("^%-%-([%w%-]+)") or ({["-W"] = "wait"})[word]
    for _, full in ipairs(HIDDEN) do
      if name == full or (name and #name > 3 and full:sub(1, #name) == name) then
        if jobs.FIXED_BY[full] then fix(full) else job.tied = format("--%s was given", full) end
      end
    end
  end
  if description.cron_job == true then job.fixed = "a job of scrontab" end
  for _, pair in ipairs(TIED_BY_TEXT) do
    if job.tied == "" and description[pair[1]] then job.tied = format("--%s was given", pair[2]) end
  end
  for _, pair in ipairs(TIED_BY_NUMBER) do
    if job.tied == "" and (value(description[pair[1]]) or 0) ~= 0 then job.tied = format("--%s was given", pair[2]) end
  end

  job.max_nodes = value(description.max_nodes)
  local per_node, num_tasks = value(description.ntasks_per_node) or 0, value(description.num_tasks)
  local tasks = num_tasks or max(1, job.nodes * max(1, per_node))
  if per_node > 0 and not value(description.min_nodes) then job.nodes = ceil(tasks / per_node) end
  local min_cpus, cpus = value(description.min_cpus) or 1, tasks * (value(description.cpus_per_task) or 1)
  local overcommit = num_tasks ~= nil and min_cpus < cpus
  job.cpus = overcommit and min_cpus or max(min_cpus, cpus)

  local per_node_gres = description.tres_per_node or description.gres
  local counted = {tasks = tasks, gres = jobs.gres(per_node_gres), array = description.array_inx, constraint = description.features,
    per_task = jobs.gpus_of(description.tres_per_task), per_job = jobs.gpus_of(description.tres_per_job), cpus_per_gpu = 0}
  for _, pair in ipairs(jobs.gres(description.cpus_per_tres)) do
    if jobs.is_gpu(pair[1]) then counted.cpus_per_gpu = pair[2] end
  end
  job.gres_per_node = counted.gres
  local minutes = description.time_limit
  if minutes == 4294967295 or minutes == 0 then
    job.unlimited = true
  elseif value(minutes) then
    job.time_limit_s = minutes * 60
  end
  job.memory_mb_per_node, job.memory_mb_per_cpu = value(description.min_mem_per_node), value(description.min_mem_per_cpu)
  job.exclusive = description.shared == 0
  local licenses = description.licenses or ""
  job.licenses = licenses:find("|", 1, true) and {} or jobs.gres(licenses)
  job.partitions = units.names(description.partition)
  job.account = description.account or description.default_account or ""
  job.qos = description.qos or description.default_qos or ""
  job.comment = description.comment
  return jobs.complete(job, counted)
end
