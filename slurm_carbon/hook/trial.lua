-- Runs a site's job_submit.lua on the job in `trial`, a table that stands before this text, and tells what it did.
local out = {}
local function tell(...) out[#out + 1] = table.concat({...}, "\t") end
local function teller(kind)
  return function(form, ...) tell(kind, (string.format(form, ...):gsub("[\r\n\t]", " "))) end
end

slurm = setmetatable({SUCCESS = 0, ERROR = -1, FAILURE = -1, NO_VAL = 4294967294, NO_VAL64 = 1.844674407371e+19,
  INFINITE = 4294967295, CLUSTER_NAME = trial.cluster, log_user = teller("user"), user_msg = teller("user")},
  {__index = function(_, name) return name:find("^log_") and teller("log") or nil end})

local before = {}
for name, value in pairs(trial.description) do before[name] = value end
dofile(trial.script)
local code = slurm_job_submit(trial.description, trial.partitions, trial.description.user_id)
tell("code", tostring(code))
for name, value in pairs(trial.description) do
  if before[name] ~= value then tell("set", name, type(value) == "number" and string.format("%.0f", value) or tostring(value)) end
end
return table.concat(out, "\n")
