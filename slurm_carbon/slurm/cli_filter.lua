-- Written by csbatch, which reads what this prints. Nothing is submitted through it.
function slurm_cli_setup_defaults(options, early) return slurm.SUCCESS end
function slurm_cli_post_submit(offset, job_id, step_id) return slurm.SUCCESS end
function slurm_cli_pre_submit(options, offset)
  io.stdout:write("\1", slurm.CLUSTER_NAME or "", "\n", slurm.json_cli_options(options), "\n")
  io.stdout:flush()
  return slurm.ERROR
end
