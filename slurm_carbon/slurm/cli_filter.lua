-- Written by csbatch, which reads what this prints. Nothing is submitted through it.
function slurm_cli_setup_defaults() return slurm.SUCCESS end
function slurm_cli_post_submit() return slurm.SUCCESS end
function slurm_cli_pre_submit(options)
  io.stdout:write("\1", slurm.CLUSTER_NAME or "", "\n", slurm.json_cli_options(options), "\n")
  io.stdout:flush()
  return slurm.ERROR
end
