"""From the resources of a job to the power that it draws at a place."""

from slurm_carbon.model import Job, Location, Partition


def power_w(job: Job, location: Location, partition: Partition, home: Partition) -> float:
    """Mean power in W of all array tasks of a job together, PUE included.

    Every core and GPU that the job holds counts as busy. Memory counts as asked for, else as Slurm's default, else as
    the share of a node that goes with the cores, these two where sbatch would send the job (`home`): it needs no less
    elsewhere. A job that has nodes for itself pays for all of their cores and memory. The model and its constants follow
    Green Algorithms (Lannelongue et al. 2021, doi:10.1002/advs.202100707), usage factor 1.
    """
    shapes = partition.shapes
    nodes = sum(shape.nodes for shape in shapes) or 1
    cpus_per_node = sum(shape.nodes * shape.cpus for shape in shapes) / nodes
    memory_mb_per_node = sum(shape.nodes * shape.memory_mb for shape in shapes) / nodes

    cpus = float(job.cpus)
    if job.exclusive or partition.whole_nodes:
        cpus = max(cpus, job.nodes * cpus_per_node)
        memory_mb = max(job.nodes, cpus / cpus_per_node if cpus_per_node else 0) * memory_mb_per_node
    elif job.memory_mb_per_node is not None:
        memory_mb = job.nodes * (job.memory_mb_per_node or memory_mb_per_node)  # --mem=0 is all of a node
    elif job.memory_mb_per_cpu is not None:
        memory_mb = cpus * job.memory_mb_per_cpu
    elif home.default_mb_per_node is not None:
        memory_mb = float(job.nodes * home.default_mb_per_node)
    elif home.default_mb_per_cpu is not None:
        memory_mb = cpus * home.default_mb_per_cpu
    else:
        home_cpus = sum(shape.nodes * shape.cpus for shape in home.shapes)
        memory_mb = cpus * sum(shape.nodes * shape.memory_mb for shape in home.shapes) / home_cpus if home_cpus else 0.0

    rates = location.power
    one_task_w = (
        cpus * rates.watts_per_core + job.gpus * rates.watts_per_gpu + memory_mb / 1024 * rates.watts_per_gb
    ) * rates.pue
    return one_task_w * job.array_tasks
