--[[
slurm-carbon in Slurm's own Lua: every sbatch of the site placed by the outlook, inside slurmctld (job_submit) or in
the user's sbatch (cli_filter).

A site's script loads it at its end, by lines that `slurm-carbon hook install` writes:

    local ok, carbon = pcall(dofile, "/etc/slurm/slurm_carbon.lua")
    pcall(function() carbon.job_submit({outlook = "/var/lib/slurm_carbon/hook/outlook.lua"}) end)

What it decides is what csbatch decides: the parts, in the folder of the same name beside this file, are twins of the
Python modules that have their names, and tests compare them. It is written for Lua 5.1 to 5.4 without any library, starts
no process, opens two small files a job, and never refuses a job: whatever fails here leaves the job as it is, with one line
in the log for each kind of failure.
]]

local M = {
  VERSION = "0.1.0",
  FORMAT = 1, -- of the outlook's Lua form
  MAX_BYTES = 4 * 1024 * 1024,
  CLOCK_SKEW_S = 300, -- how far ahead the clock of the machine that wrote the outlook may be
  COMMENT_LIMIT = 1024, -- bytes; Slurm refuses a longer comment
  SCRIPT_BYTES = 65536, -- of a script, where its #CSBATCH lines are looked for
  STEER_S = 60, -- of several clusters, how much later than the chosen one the others offer to start
}

local parts = {"units", "outlook", "wishes", "jobs", "policy", "place", "decide", "record", "hook", "client"}
for _, name in ipairs(parts) do M[name] = {} end
local folder = debug.getinfo(1, "S").source:match("^@(.*)%.lua$")
for _, name in ipairs(parts) do assert(loadfile(folder .. "/" .. name .. ".lua"))(M) end

M.job_submit, M.cli_filter = M.hook.install, M.client.install
return M
