-- Slurm's own names; the hook wraps the functions that it calls
std = "min"
max_line_length = 132
globals = {"slurm_job_submit", "slurm_job_modify", "slurm_cli_pre_submit", "slurm_cli_setup_defaults", "slurm_cli_post_submit"}
read_globals = {"slurm", "setfenv", "loadstring"}
exclude_files = {"slurm_carbon/hook/lua"} -- a link to etc/lua
files["slurm_carbon/hook/trial.lua"] = {globals = {"slurm"}, read_globals = {"trial"}}
