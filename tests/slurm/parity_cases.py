"""The command lines that csbatch has to treat as sbatch does: one record each, read by test_parity.py.

A builder says what becomes of the job when csbatch decides in full:
- `moved`: it goes to beta, to a cleaner hour, or both; all else about it stays as sbatch would have it;
- `left`: csbatch has a reason to leave it alone, so that nothing at all differs;
- `nothing`: no job comes of it, because of an error, --help or --test-only.
- `runs`: like `moved` or `left`, and the job runs to its end; what it writes is compared.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCRIPT = b"#!/bin/sh\n:\n"
CANARY = "pwned"  # hostile text tries to make a file of this name


@dataclass(frozen=True)
class Case:
    """One command line, what surrounds it, and what csbatch in full makes of it."""

    name: str
    argv: tuple[str, ...]
    fate: str
    environment: Mapping[str, str | None] = field(default_factory=dict)  # None takes a variable away
    files: Mapping[str, bytes] = field(default_factory=dict)  # in the working folder, beside job.sh
    stdin: bytes | None = None
    login: str = "alpha"  # the cluster whose login node it is typed on
    through: str = ""  # a line of bash in which "$@" is the command
    relative: bool = False  # its begin time counts from its submission
    unmarked: bool = False  # no room is left in the comment
    chatty: bool = False  # sbatch prints the options that it was given, so ours too


def _case(fate: str, name: str, line: str | Sequence[str], more: Mapping[str, Any]) -> Case:
    argv = tuple(shlex.split(line) if isinstance(line, str) else line)
    options = dict(more)
    if script := options.pop("script", None):  # the text of job.sh
        options["files"] = {**options.get("files", {}), "job.sh": script}
    return Case(name, argv, fate, options.pop("env", {}), **options)


def moved(name: str, line: str | Sequence[str], **more: Any) -> Case:
    """A job that csbatch in full moves or delays."""
    return _case("moved", name, line, more)


def left(name: str, line: str | Sequence[str], **more: Any) -> Case:
    """A job that csbatch leaves alone."""
    return _case("left", name, line, more)


def nothing(name: str, line: str | Sequence[str], **more: Any) -> Case:
    """A command line that submits nothing."""
    return _case("nothing", name, line, more)


def runs(name: str, line: str | Sequence[str], **more: Any) -> Case:
    """A job whose output is compared too: it may go to beta, but not to a later hour."""
    return _case("runs", name, line, more)


FORMS = [
    moved("a script", "job.sh"),
    moved("a script by its absolute path", ["--chdir=/tmp", "{folder}/job.sh"]),
    moved("a script in a folder below", "below/job.sh", files={"below/job.sh": SCRIPT}),
    moved("a script that cannot be executed", "plain.sh", files={"plain.sh": SCRIPT}),
    moved("a script found on PATH", "tool", files={"bin/tool": SCRIPT}, env={"PATH": "{folder}/bin:{path}"}),
    moved("a script with a blank in its name", ["my job.sh"], files={"my job.sh": SCRIPT}),
    moved("a script whose name begins with a dash", ["--", "-job.sh"], files={"-job.sh": SCRIPT}),
    moved("a script behind --", "-t 20 -- job.sh -t 30"),
    moved("a comment and a script behind --", "--comment=mine -- job.sh"),
    moved("another interpreter", "job.py", files={"job.py": b"#!/usr/bin/env python3\nprint(1)\n"}),
    moved("a script without a last newline", "job.sh", script=b"#!/bin/sh\n:"),
    moved("a script with other bytes than UTF-8", "job.sh", script=b"#!/bin/sh\necho '\xff\xfe caf\xe9'\n"),
    moved("a script of a megabyte", "job.sh", script=b"#!/bin/sh\n" + b"# filler of some length\n" * 44000),
    moved("arguments of a script", "job.sh a b c"),
    moved("options as arguments of a script", "-n 2 job.sh -n 3 --time=9 --hold -- -x"),
    moved("our options as arguments of a script", "-n 2 job.sh --carbon-off --carbon-max-delay 1h x"),
    moved("--wrap=", ["--wrap=echo hello"]),
    moved("--wrap and a word", ["--wrap", "echo hello | cat > /dev/null"]),
    moved("an empty argument", ["job.sh", "", "x"]),
    moved("--wrap with options before and behind", ["-n1", "--wrap=:", "-t", "7"]),
    moved("stdin from a pipe", "", stdin=SCRIPT),
    moved("stdin from a pipe, with options", "-J fed -t 5 --comment=mine", stdin=SCRIPT),
    moved("stdin from a pipe, with #SBATCH lines", "-n 2", stdin=b"#!/bin/sh\n#SBATCH -n 3 -t 12 -J inside\n:\n"),
    moved("stdin from a file", "-n 2", through='"$@" < job.sh'),
    moved("stdin from a here-document", "", through="\"$@\" <<'EOF'\n#!/bin/sh\n#SBATCH -J here\necho $x `y`\nEOF\n"),
    moved("stdin from a file, to its end", "", through='{ "$@"; cat; } < job.sh'),
    moved("/dev/stdin, a file", "/dev/stdin", through='"$@" < job.sh'),
    moved("the script of a process substitution", "-n 2", through='"$@" <(cat job.sh)'),
    moved("the script of a process substitution, with arguments", "-n 2", through='"$@" <(cat job.sh) a "b c"'),
    moved("a file descriptor", "/dev/fd/9", through='"$@" 9< job.sh'),
    moved("stdin is not read beside a script", "job.sh", through='"$@" && cat', stdin=b"the next line\nof a loop\n"),
    moved("stdin is not read beside --wrap", ["--wrap=:"], through='"$@" && cat', stdin=b"the next line\n"),
    moved("stdin closed", "job.sh", through='"$@" <&-'),
    moved("a working folder by a symbolic link", "../job.sh", through='mkdir -p real && ln -s real link && cd link && "$@"'),
    moved("a working folder with odd bytes", "../job.sh", through='mkdir "$(printf "a b\\377")" && cd a* && "$@"'),
    moved("umask and limits of the shell", "job.sh", through='umask 027; ulimit -n 512; ulimit -c 0; "$@"'),
    moved("from the other login node", "job.sh", login="beta"),
    nothing("a script that is not there", "nowhere.sh"),
    nothing("a folder as the script", "/tmp"),
    nothing("- is not stdin", "-", stdin=SCRIPT),
    nothing("an empty script", "empty.sh", files={"empty.sh": b""}),
    nothing("an empty stdin", "", stdin=b""),
    nothing("nothing on stdin", ""),
    nothing("no #! line", "job.sh", script=b"echo hello\n"),
    nothing("no #! line on stdin", "", stdin=b"echo hello\n"),
    nothing("DOS line ends", "job.sh", script=b"#!/bin/sh\r\necho\r\n"),
    nothing("zero bytes in the script", "job.sh", script=b"#!/bin/sh\n\0\0\n"),
    nothing("a script larger than Slurm takes", "job.sh", script=b"#!/bin/sh\n" + b"# filler of some length\n" * 200000),
    nothing("arguments beside --wrap", ["--wrap=:", "x"]),
    nothing("a script that may not be read", "job.sh", through='chmod 0 job.sh; "$@"; code=$?; chmod 644 job.sh; exit $code'),
]

# every long option of `sbatch --help`, and those that only its manual page has
LONG_OPTIONS = [
    moved("--array", "--array=1-3 job.sh"),
    moved("--account", "--account=guest job.sh"),
    nothing("--account: unknown", "--account=nobody job.sh"),
    moved("--acctg-freq", "--acctg-freq=task=30 job.sh"),
    moved("--bb", "--bb=capacity=1 job.sh"),
    moved("--bbf", "--bbf=bb.txt job.sh", files={"bb.txt": b"#BB capacity=1\n"}),
    nothing("--bbf: no such file", "--bbf=none.txt job.sh"),
    moved("--batch", "--constraint=old --batch=old job.sh"),
    left("--begin", "--begin=2030-01-02T03:04:05 job.sh"),
    left("--begin: relative", "--begin=now+2hours job.sh", relative=True),
    nothing("--begin: no time", "--begin=whenever job.sh"),
    moved("--comment", ["--comment=my own words", "job.sh"]),
    moved("--cpu-freq", "--cpu-freq=1000-2000:ondemand job.sh"),
    moved("--cpus-per-task", "--cpus-per-task=3 job.sh"),
    left("--dependency", "--dependency=afterok:{held} job.sh"),
    left("--deadline", "--deadline=2030-01-02T03:04:05 job.sh"),
    moved("--delay-boot", "--delay-boot=5 job.sh"),
    moved("--chdir", "--chdir=/tmp job.sh"),
    moved("--error", "--error=errors-%j.txt job.sh"),
    moved("--export", "--export=HOME,MINE=1 job.sh"),
    moved("--export-file", "--export-file=variables job.sh", files={"variables": b"ONE=1\0TWO=a b\nc\0"}),
    moved(
        "--export-file: a descriptor", "--export-file=9 job.sh", files={"variables": b"ONE=1\0"}, through='"$@" 9< variables'
    ),
    moved(
        "--export-file: a pipe", "--export-file=9 job.sh", files={"variables": b"ONE=1\0"}, through='"$@" 9< <(cat variables)'
    ),
    moved("--get-user-env", "--get-user-env job.sh"),
    nothing("--gid: not for users", "--gid=0 job.sh"),
    moved("--gres", "--gres=gpu:a100:1 job.sh"),
    nothing("--gres: unknown", "--gres=nonsense:1 job.sh"),
    moved("--gres-flags", "--gres=gpu:1 --gres-flags=enforce-binding job.sh"),
    left("--hold", "--hold job.sh"),
    moved("--hint", "--hint=nomultithread job.sh"),
    moved("--ignore-pbs", "--ignore-pbs job.sh", script=b"#!/bin/sh\n#PBS -N other\n:\n"),
    moved("--input", "--input=in.txt job.sh"),
    moved("--job-name", "--job-name=mine job.sh"),
    moved("--kill-on-invalid-dep", "--kill-on-invalid-dep=yes job.sh"),
    moved("--no-kill", "--no-kill job.sh"),
    moved("--licenses", "--licenses=matlab:2 job.sh"),
    nothing("--licenses: unknown", "--licenses=nonsense:2 job.sh"),
    moved("--clusters: the own one", "--clusters=alpha job.sh"),
    moved("--clusters: the other one", "--clusters=beta job.sh"),
    nothing("--clusters: unknown", "--clusters=nowhere job.sh"),
    moved("--container", "--container=bundle job.sh"),
    moved("--distribution", "--distribution=cyclic:block -n 4 job.sh"),
    moved("--mail-type", "--mail-type=END,FAIL job.sh"),
    moved("--mail-user", "--mail-user=someone@example.org --mail-type=ALL job.sh"),
    moved("--mcs-label", "--mcs-label=secret job.sh"),
    moved("--mem-bind", "--mem-bind=local job.sh"),
    moved("--network", "--network=none job.sh"),
    moved("--ntasks", "--ntasks=5 job.sh"),
    moved("--nice", "--nice job.sh"),
    moved("--nice with a value", "--nice=55 job.sh"),
    nothing("--nice: out of range", "--nice=99999999999 job.sh"),
    moved("--no-requeue", "--no-requeue job.sh"),
    moved("--ntasks-per-node", "--ntasks-per-node=2 -N 2 job.sh"),
    moved("--nodes", "--nodes=2-3 job.sh"),
    moved("--open-mode", "--open-mode=append job.sh"),
    moved("--output", "--output=out-%x-%j.txt job.sh"),
    moved("--overcommit", "--overcommit -n 40 job.sh"),
    moved("--partition", "--partition=short -t 5 job.sh"),
    nothing("--partition: unknown", "--partition=nonsense job.sh"),
    moved("--parsable", "--parsable job.sh"),
    moved("--power", "--power=level job.sh"),
    moved("--prefer", "--prefer=old job.sh"),
    moved("--priority", "--priority=1000 job.sh"),
    moved("--profile", "--profile=task job.sh"),
    moved("--propagate", "--propagate job.sh"),
    moved("--propagate with names", "--propagate=NOFILE,CORE job.sh"),
    nothing("--propagate: unknown", "--propagate=NONSENSE job.sh"),
    moved("--qos", "--qos=normal job.sh"),
    moved("--qos: unknown, but not enforced", "--qos=nonsense job.sh"),
    moved("--quiet", "--quiet job.sh"),
    nothing("--reboot: not for users", "--reboot job.sh"),
    moved("--requeue", "--requeue job.sh"),
    moved("--oversubscribe", "--oversubscribe job.sh"),
    moved("--core-spec", "--core-spec=2 job.sh"),
    moved("--signal", "--signal=B:USR1@120 job.sh"),
    moved("--spread-job", "--spread-job -n 4 job.sh"),
    moved("--switches", "--switches=1@5 job.sh"),
    moved("--thread-spec", "--thread-spec=2 job.sh"),
    moved("--time", "--time=1-02:03:04 job.sh"),
    nothing("--time: not a time", "--time=soon job.sh"),
    left("--time without an end", "--time=UNLIMITED --hold job.sh"),
    moved("--time-min", "--time=60 --time-min=30 job.sh"),
    nothing("--uid: not for users", "--uid=0 job.sh"),
    moved("--use-min-nodes", "--use-min-nodes -N 1-3 job.sh"),
    moved("--verbose", "--verbose job.sh", chatty=True),
    moved("--wckey", "--wckey=mine job.sh"),
    moved("--wait-all-nodes", "--wait-all-nodes=1 job.sh"),
    moved("--cluster-constraint", "--cluster-constraint=nonsense job.sh"),
    moved("--contiguous", "--contiguous -N 2 job.sh"),
    moved("--constraint", "--constraint=new job.sh"),
    moved("--constraint: both", "--constraint=old&alpha job.sh"),
    moved("--constraint: either", "--constraint=old|new job.sh"),
    moved("--constraint: counted", "--constraint=[old*1&new*1] -N 2 job.sh"),
    nothing("--constraint: unknown", "--constraint=nonsense job.sh"),
    moved("--nodefile", "--nodefile=nodes.txt job.sh", files={"nodes.txt": b"alpha1\n"}),
    moved("--mem", "--mem=2G job.sh"),
    moved("--mem: of kilobytes", "--mem=2048K job.sh"),
    nothing("--mem: not a size", "--mem=lots job.sh"),
    nothing("--mem: more than there is", "--mem=9T job.sh"),
    moved("--mincpus", "--mincpus=4 job.sh"),
    nothing("--reservation: unknown", "--reservation=nonsense job.sh"),
    left("--reservation", "--reservation=parity job.sh"),
    moved("--tmp", "--tmp=0 job.sh"),
    moved("--nodelist", "--nodelist=alpha2 job.sh"),
    nothing("--nodelist: unknown", "--nodelist=nonsense job.sh"),
    moved("--exclude", "--exclude=alpha2 job.sh"),
    moved("--exclusive", "--exclusive job.sh"),
    moved("--exclusive=user", "--exclusive=user job.sh"),
    moved("--exclusive=mcs", "--exclusive=mcs job.sh"),
    moved("--mem-per-cpu", "--mem-per-cpu=500 -n 2 job.sh"),
    moved("--sockets-per-node", "--sockets-per-node=2 job.sh"),
    moved("--cores-per-socket", "--cores-per-socket=4 job.sh"),
    moved("--threads-per-core", "--threads-per-core=1 job.sh"),
    moved("--extra-node-info", "--extra-node-info=2:4:1 job.sh"),
    moved("--ntasks-per-core", "--ntasks-per-core=1 -n 2 job.sh"),
    moved("--ntasks-per-socket", "--ntasks-per-socket=2 -n 2 job.sh"),
    moved("--ntasks-per-gpu", "--ntasks-per-gpu=2 --gpus=1 job.sh"),
    moved("--cpus-per-gpu", "--cpus-per-gpu=2 --gpus=1 job.sh"),
    moved("--gpus", "--gpus=a100:2 job.sh"),
    moved("--gpu-bind", "--gpu-bind=closest --gpus=1 job.sh"),
    moved("--gpu-freq", "--gpu-freq=low --gpus=1 job.sh"),
    moved("--gpus-per-node", "--gpus-per-node=1 job.sh"),
    moved("--gpus-per-socket", "--gpus-per-socket=1 --sockets-per-node=1 job.sh"),
    moved("--gpus-per-task", "--gpus-per-task=1 -n 2 job.sh"),
    moved("--mem-per-gpu", "--mem-per-gpu=1G --gpus=1 job.sh"),
    nothing("--test-only", "--test-only job.sh"),
    nothing("--test-only of an impossible job", "--test-only -N 99 job.sh"),
    nothing("--help", "--help"),
    nothing("--help beside a script", "--help job.sh"),
    nothing("--usage", "--usage"),
    nothing("--version", "--version"),
]

SHORT_OPTIONS = [
    moved("-a", "-a 0-7%2 job.sh"),
    moved("-a: a list", "-a 1,3,5-9:2 job.sh"),
    moved("-a: one", "-a 4 job.sh"),
    nothing("-a: not a range", "-a x-y job.sh"),
    nothing("-a: too many", "-a 0-99999999 job.sh"),
    moved("-a with names of files", "-a 1-2 -o out-%A_%a.txt -e err-%A_%a.txt job.sh"),
    moved("-a with a comment", ["-a", "1-2", "--comment=mine", "--parsable", "job.sh"]),
    moved("-A", "-A lab job.sh"),
    left("-b", "-b 2030-01-01 job.sh"),
    moved("-B", "-B 1:2:1 job.sh"),
    moved("-c", "-c2 job.sh"),
    moved("-C", "-C old job.sh"),
    left("-d: singleton", "-d singleton -J once job.sh"),
    left("-d: any end, later", "-d after:{held}+5 job.sh"),
    left("-d: either", "-d afterok:{held}?afternotok:{held} job.sh"),
    nothing("-d: not a dependency", "-d nonsense:1 job.sh"),
    left("-d: no such job", "-d afterok:99999999 job.sh"),
    moved("-D", "-D /tmp job.sh"),
    moved("-e", "-e errors job.sh"),
    moved("-F", "-F ./nodes.txt job.sh", files={"nodes.txt": b"alpha[0-1]\n"}),
    moved("-G", "-G 1 job.sh"),
    nothing("-h", "-h"),
    left("-H", "-H job.sh"),
    moved("-i", "-i in job.sh"),
    moved("-J", "-J mine job.sh"),
    moved("-k", "-k job.sh"),
    moved("-L", "-L matlab job.sh"),
    moved("-m", "-m block job.sh"),
    moved("-M", "-M beta job.sh"),
    moved("-M with --parsable", "-M beta --parsable job.sh"),
    moved("-M of the own cluster with --parsable", "-M alpha --parsable job.sh"),
    left("-M of two, of which one fits", "-M alpha,beta -w beta1 job.sh"),
    moved("-M from the other login node", "-M alpha job.sh", login="beta"),
    moved("-n", "-n3 job.sh"),
    moved("-N", "-N2 job.sh"),
    nothing("-N: more than there are", "-N 99 job.sh"),
    nothing("-N: not a number", "-N many job.sh"),
    moved("-o", "-o /dev/null job.sh"),
    moved("-O", "-O -n 20 job.sh"),
    moved("-p", "-p gpu job.sh"),
    moved("-p: two", "-p short,batch -t 10 job.sh"),
    moved("-q", "-q normal job.sh"),
    moved("-Q", "-Q job.sh"),
    moved("-Q with --parsable", "-Q --parsable job.sh"),
    nothing("-Q with an error", "-Q -p nonsense job.sh"),
    moved("-s", "-s job.sh"),
    moved("-S", "-S 1 job.sh"),
    moved("-t", "-t 90 job.sh"),
    moved("-t: minutes and seconds", "-t 5:30 job.sh"),
    nothing("-t: longer than the partition allows", "-t 30-0 --test-only job.sh"),
    moved("-v", "-v job.sh", chatty=True),
    moved("-vv", "-vv job.sh", chatty=True),
    nothing("-V", "-V"),
    moved("-w", "-w alpha1 job.sh"),
    moved("-x", "-x alpha[0-2] job.sh"),
    moved("several short options in one word", "-sOn20 job.sh"),
    moved("short options in one word, the last with a value", "-Ot7 job.sh"),
    moved("an option twice", "-n 2 -n 3 -J one -J two job.sh"),
    nothing("-Z is unknown", "-Z job.sh"),
    nothing("an option without its value", "-n"),
    nothing("-n: not a number", "-n x job.sh"),
    nothing("-n: zero", "-n 0 job.sh"),
]

ABBREVIATIONS = [
    moved("--part", "--part=short -t 5 job.sh"),
    moved("--comm", "--comm=mine job.sh"),
    moved("--job and a word", "--job mine job.sh"),
    moved("--licen", "--licen matlab:1 job.sh"),
    moved("--time-m", "--time-m=5 -t 10 job.sh"),
    moved("--pars", "--pars job.sh"),
    moved("--wra", ["--wra=:"]),
    left("--beg", "--beg=now+1day job.sh", relative=True),
    left("--hol", "--hol job.sh"),
    nothing("--test", "--test job.sh"),
    nothing("--hel", "--hel"),
    nothing("--tim is ambiguous", "--tim=10 job.sh"),
    nothing("--c is ambiguous", "--c=10 job.sh"),
    nothing("--nonsense is unknown", "--nonsense job.sh"),
    nothing("--hold takes no value", "--hold=yes job.sh"),
    nothing("--time without its value", "--time"),
    nothing("one dash too few", "-time=10 job.sh"),
]

HET_JOBS = [
    left(": between options and one script", ["-n", "1", "-t", "5", ":", "-n", "2", "-t", "5", "job.sh"]),
    left(": and --wrap", ["-n", "1", "--wrap=:", ":", "-n", "2"]),
    left(": of three", "-n1 -J a : -n2 -J b : -n3 -J c job.sh"),
    left(": with --parsable", "--parsable -n1 : -n2 job.sh"),
    left(": and a script on stdin", "-n1 : -n2", stdin=SCRIPT),
    left(": on the other cluster", "-M beta -n1 : -n2 job.sh"),
    moved(": as an argument of a script", "-n 1 job.sh : -n 2"),
    nothing(": as a value", ["-J", ":", "job.sh"]),
    nothing(": with nothing to run", ["-n1", ":", "-n2", ":"]),
    nothing(": with a mistake behind it", "-n1 : --nonsense job.sh"),
    left("#SBATCH hetjob", "job.sh", script=b"#!/bin/sh\n#SBATCH -n 1 -t 5\n#SBATCH hetjob\n#SBATCH -n 2 -t 5\n:\n"),
    left("#SBATCH hetjob on stdin", "", stdin=b"#!/bin/sh\n#SBATCH -n 1\n#SBATCH hetjob\n#SBATCH -n 2\n:\n"),
    left("#SBATCH packjob", "job.sh", script=b"#!/bin/sh\n#SBATCH -n 1\n#SBATCH packjob\n#SBATCH -n 2\n:\n"),
]

ENVIRONMENT = [
    moved("SBATCH_ACCOUNT", "job.sh", env={"SBATCH_ACCOUNT": "guest"}),
    moved("SBATCH_ARRAY_INX", "job.sh", env={"SBATCH_ARRAY_INX": "1-4"}),
    moved("SBATCH_CLUSTERS", "job.sh", env={"SBATCH_CLUSTERS": "beta"}),
    moved("SLURM_CLUSTERS", "job.sh", env={"SLURM_CLUSTERS": "beta"}),
    moved("SBATCH_CONSTRAINT", "job.sh", env={"SBATCH_CONSTRAINT": "new"}),
    moved("SBATCH_CORE_SPEC", "job.sh", env={"SBATCH_CORE_SPEC": "1"}),
    moved("SBATCH_CPUS_PER_GPU", "-G1 job.sh", env={"SBATCH_CPUS_PER_GPU": "2"}),
    moved("SBATCH_DEBUG", "job.sh", env={"SBATCH_DEBUG": "1"}, chatty=True),
    moved("SBATCH_DISTRIBUTION", "-n2 job.sh", env={"SBATCH_DISTRIBUTION": "cyclic"}),
    moved("SBATCH_ERROR", "job.sh", env={"SBATCH_ERROR": "e.txt"}),
    moved("SBATCH_EXCLUSIVE", "job.sh", env={"SBATCH_EXCLUSIVE": "user"}),
    moved("SBATCH_EXPORT", "job.sh", env={"SBATCH_EXPORT": "NONE"}),
    moved("SBATCH_GPUS", "job.sh", env={"SBATCH_GPUS": "1"}),
    moved("SBATCH_GRES", "job.sh", env={"SBATCH_GRES": "gpu:1"}),
    moved("SBATCH_HINT", "job.sh", env={"SBATCH_HINT": "nomultithread"}),
    moved("SBATCH_IGNORE_PBS", "job.sh", env={"SBATCH_IGNORE_PBS": "1"}, script=b"#!/bin/sh\n#PBS -N other\n:\n"),
    moved("SBATCH_INPUT", "job.sh", env={"SBATCH_INPUT": "i.txt"}),
    moved("SBATCH_JOB_NAME", "job.sh", env={"SBATCH_JOB_NAME": "fromenv"}),
    moved("SBATCH_MEM_PER_CPU", "job.sh", env={"SBATCH_MEM_PER_CPU": "100"}),
    moved("SBATCH_MEM_PER_NODE", "job.sh", env={"SBATCH_MEM_PER_NODE": "1000"}),
    moved("SBATCH_NO_REQUEUE", "job.sh", env={"SBATCH_NO_REQUEUE": "1"}),
    moved("SBATCH_OPEN_MODE", "job.sh", env={"SBATCH_OPEN_MODE": "a"}),
    moved("SBATCH_OUTPUT", "job.sh", env={"SBATCH_OUTPUT": "o.txt"}),
    moved("SBATCH_OVERCOMMIT", "-n 20 job.sh", env={"SBATCH_OVERCOMMIT": "1"}),
    moved("SBATCH_PARTITION", "-t 5 job.sh", env={"SBATCH_PARTITION": "short"}),
    moved("SBATCH_QOS", "job.sh", env={"SBATCH_QOS": "normal"}),
    moved("SBATCH_REQ_SWITCH", "job.sh", env={"SBATCH_REQ_SWITCH": "1", "SBATCH_WAIT4SWITCH": "60"}),
    nothing("SBATCH_RESERVATION", "job.sh", env={"SBATCH_RESERVATION": "nonsense"}),
    moved("SBATCH_SIGNAL", "job.sh", env={"SBATCH_SIGNAL": "USR1@60"}),
    moved("SBATCH_TIMELIMIT", "job.sh", env={"SBATCH_TIMELIMIT": "7"}),
    moved("SBATCH_WCKEY", "job.sh", env={"SBATCH_WCKEY": "key"}),
    nothing("SBATCH_PARTITION: unknown", "job.sh", env={"SBATCH_PARTITION": "nonsense"}),
    nothing("SBATCH_TIMELIMIT: not a time", "job.sh", env={"SBATCH_TIMELIMIT": "soon"}),
    nothing("SLURM_EXIT_ERROR of an option", "--nonsense job.sh", env={"SLURM_EXIT_ERROR": "42"}),
    nothing("SLURM_EXIT_ERROR of a refusal", "-p nonsense job.sh", env={"SLURM_EXIT_ERROR": "42"}),
    moved("SLURM_UMASK", "job.sh", env={"SLURM_UMASK": "0077"}),
    moved(
        "SLURM_* of a job that submits another",
        "job.sh",
        env={"SLURM_JOB_ID": "5", "SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "9"},
    ),
    left("a time zone", "--begin=2030-06-01T12:00 job.sh", env={"TZ": "America/New_York"}),
    moved("a time zone, and our begin time", "job.sh", env={"TZ": "Asia/Kathmandu"}),
    moved("the C locale and other bytes", ["job.sh", "caf\udce9", "\u00e9"], env={"LANG": "C", "LC_ALL": "C"}),
    moved("no locale", ["job.sh", "caf\udce9"], env={"LANG": None}),
    moved("no HOME", "job.sh", env={"HOME": None}),
    moved("no PWD", "job.sh", env={"PWD": None}),
    moved("a PWD that is not where we are", "job.sh", env={"PWD": "/usr"}),
    moved("variables of Python", "job.sh", env={"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "x"}),
    moved("a function that bash exports", "job.sh", env={"BASH_FUNC_module%%": "() {  echo module\n}"}),
    moved("variables that no shell would accept", "job.sh", env={"a.b": "1", "c-d": "2", "3e": "3"}),
    moved(
        "values of several lines and other bytes", "job.sh", env={"TEXT": "one\ntwo\n", "BYTES": "\udcff\udcfe", "EMPTY": ""}
    ),
    moved("a large environment", "job.sh", env={f"VARIABLE_{i}": "x" * 500 for i in range(300)}),
]


def _lines(*lines: str) -> bytes:
    return "\n".join(["#!/bin/sh", *lines, ":", ""]).encode()


SCRIPT_LINES = [
    moved(
        "long options", "job.sh", script=_lines("#SBATCH --ntasks=2", "#SBATCH --time=00:15:00", "#SBATCH --job-name=inside")
    ),
    moved("short options", "job.sh", script=_lines("#SBATCH -n 2 -t 15", "#SBATCH -J inside -N1")),
    moved("an array", "job.sh", script=_lines("#SBATCH -a 1-3")),
    moved("a comment", "job.sh", script=_lines("#SBATCH --comment=inside")),
    moved("a comment of several words in double quotes", "job.sh", script=_lines('#SBATCH --comment="of several words"')),
    moved("a comment of several words in single quotes", "job.sh", script=_lines("#SBATCH --comment 'of several words'")),
    nothing("a blank behind a backslash", "job.sh", script=_lines("#SBATCH --comment=of\\ several")),
    moved("a # behind an option", "job.sh", script=_lines("#SBATCH -n 2 # of them")),
    moved("tabs", "job.sh", script=_lines("#SBATCH\t-n\t2")),
    moved("blank lines and comments between", "job.sh", script=_lines("", "# words", "#SBATCH -n 2", "", "#SBATCH -t 5")),
    moved("lines behind the first command do not count", "job.sh", script=_lines("true", "#SBATCH -n 2")),
    moved("##SBATCH does not count", "job.sh", script=_lines("##SBATCH -n 2", "# SBATCH -n 3", " #SBATCH -n 4")),
    moved("#PBS", "job.sh", script=_lines("#PBS -N pbsname", "#PBS -l walltime=0:20:00", "#PBS -A guest")),
    moved("#BSUB", "job.sh", script=_lines("#BSUB -J bsubname", "#BSUB -n 3")),
    moved("#CSBATCH of an empty wish", "job.sh", script=_lines("#CSBATCH --carbon-max-delay=12h", "#SBATCH -n 2")),
    left("--hold", "job.sh", script=_lines("#SBATCH --hold")),
    left("--begin", "job.sh", script=_lines("#SBATCH --begin=2030-01-01")),
    moved("--clusters", "job.sh", script=_lines("#SBATCH -M beta")),
    moved("--parsable", "job.sh", script=_lines("#SBATCH --parsable")),
    moved("--quiet", "job.sh", script=_lines("#SBATCH -Q")),
    moved("--chdir", "job.sh", script=_lines("#SBATCH -D /tmp")),
    nothing("--test-only", "job.sh", script=_lines("#SBATCH --test-only")),
    nothing("an unknown option", "job.sh", script=_lines("#SBATCH --nonsense")),
    nothing("our option in a line of sbatch's", "job.sh", script=_lines("#SBATCH --carbon-off")),
    nothing("an ambiguous option", "job.sh", script=_lines("#SBATCH --tim=3")),
    nothing("a value that is none", "job.sh", script=_lines("#SBATCH -n many")),
    nothing("an unfinished quotation", "job.sh", script=_lines("#SBATCH --comment='unfinished")),
    nothing("a script in the script", "job.sh", script=_lines("#SBATCH -n 2 other.sh")),
]

PRECEDENCE = [
    moved("the command line before the environment", "-J line job.sh", env={"SBATCH_JOB_NAME": "environment"}),
    moved("the environment before the script", "job.sh", env={"SBATCH_TIMELIMIT": "7"}, script=_lines("#SBATCH -t 9")),
    moved("the command line before the script", "-t 8 job.sh", script=_lines("#SBATCH -t 9")),
    moved("all three", "-p gpu job.sh", env={"SBATCH_PARTITION": "short"}, script=_lines("#SBATCH -p batch")),
    moved("a comment before that of the script", "--comment=line job.sh", script=_lines("#SBATCH --comment=script")),
    moved("a comment emptied", ["--comment=", "job.sh"], script=_lines("#SBATCH --comment=script")),
    moved("the last of two lines", "job.sh", script=_lines("#SBATCH -n 2", "#SBATCH -n 3")),
    moved("-M before the environment", "-M beta job.sh", env={"SBATCH_CLUSTERS": "alpha"}),
    left("--begin before that of the script", "--begin=2030-02-02 job.sh", script=_lines("#SBATCH --begin=2030-01-01")),
    moved("--requeue before --no-requeue", "--no-requeue job.sh", script=_lines("#SBATCH --requeue")),
    moved("-n and SBATCH_GPUS together", "-n 2 job.sh", env={"SBATCH_GPUS": "1"}, script=_lines("#SBATCH -t 9")),
]

_EVIL = [
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY};",
    f"' ; touch {CANARY} '",
    f'" ; touch {CANARY} "',
    f"| touch {CANARY} & touch {CANARY} #",
    "a\nb\n\nc",
    "back\\slash \\n \\\\ \\",
    "not UTF-8 \udcff\udcfe\udce9",
    "umlaut \u00fc, emoji \U0001f331",
    "%j %A %a %x %% %s %n",
    " blanks  at the   ends ",
    "tab\tand\rcarriage return\x1b[31mred\x07",
    "--leading=dashes",
    "{curly} [square] * ? ~ !",
    "cs1 begin=1 latest=2 at=beta/batch g=1 base=2 kwh=3",
    "x | cs1 begin=1 latest=2 at=beta/batch g=1 base=2 kwh=3",
    'json "}],"argv":["x"]',
]

HOSTILE = [
    *(moved(f"job name {text!r}", [f"--job-name={text}", "job.sh"]) for text in _EVIL),
    *(moved(f"comment {text!r}", [f"--comment={text}", "job.sh"]) for text in _EVIL),
    *(moved(f"--wrap {text!r}", [f"--wrap=: {text}"]) for text in _EVIL),
    moved("script arguments", ["job.sh", *_EVIL]),
    moved("script arguments with dashes", ["job.sh", "--comment=x", "-J", "--", "-", "--begin=now+1hour", "--carbon-help"]),
    *(moved(f"--export {text!r}", [f"--export=ALL,EVIL={text},OTHER='{text}'", "job.sh"]) for text in _EVIL[:10]),
    moved("paths", ["-o", f"$(touch {CANARY}) '%j'\n.txt", "-e", f"`touch {CANARY}`;\udcff", "-i", "in put", "job.sh"]),
    moved("a script's name", [f"$(touch {CANARY}).sh"], files={f"$(touch {CANARY}).sh": SCRIPT}),
    moved("a script's name of other bytes", ["caf\udce9.sh"], files={"caf\udce9.sh": SCRIPT}),
    moved("a script's name of several lines", ["a\nb.sh"], files={"a\nb.sh": SCRIPT}),
    moved("a folder", [f"--chdir=/tmp/$(touch {CANARY})", "job.sh"]),
    moved("environment", "job.sh", env={"EVIL": f"$(touch {CANARY})`touch {CANARY}`", "CSBATCH": f"; touch {CANARY}"}),
    moved("a name as a separate word", ["-J", f"-$(touch {CANARY})", "job.sh"]),
    moved("a name of two dashes", ["-J", "--", "job.sh"]),
    moved("a name of two dashes, then --", ["-J", "--", "--", "job.sh", "x"]),
    moved("a name of two dashes and a comment", ["--comment=mine", "-J", "--", "job.sh"]),
    moved("a name that looks like an option of ours", ["-J", "--carbon-off", "job.sh"]),
    moved("a name that looks like a long option", ["-J", "--hold", "job.sh"]),
    moved("a user for mail", [f"--mail-user=$(touch {CANARY})@x", "--mail-type=ALL", "job.sh"]),
    moved("a comment as long as Slurm takes", ["--comment=" + "x" * 1024, "job.sh"], unmarked=True),
    moved("a comment that leaves room for the mark", ["--comment=" + "x" * 900, "job.sh"]),
    nothing("a comment longer than Slurm takes", ["--comment=" + "x" * 1025, "job.sh"]),
    moved("a job name of 500 letters", ["-J", "x" * 500, "job.sh"]),
    moved("4000 arguments", ["job.sh", *(f"argument {i}" for i in range(4000))]),
    moved("an #SBATCH line", "job.sh", script=_lines(f'#SBATCH --comment="$(touch {CANARY}) `touch {CANARY}`"')),
    nothing("an account", [f"--account=$(touch {CANARY})", "job.sh"]),
    nothing("a partition", [f"--partition=`touch {CANARY}`", "job.sh"]),
    nothing("a cluster", [f"--clusters=$(touch {CANARY})", "job.sh"]),
    nothing("an option of odd bytes", [f"--\udcff$(touch {CANARY})", "job.sh"]),
]

_SHOW = b"""#!/bin/sh
printf '<%s>' "$@"
printf '\\n%s %s %s\\n' "$SLURM_JOB_NAME" "$EVIL" "$SLURM_ARRAY_TASK_ID"
umask
ulimit -n
pwd
cat
"""

RUNNING = [
    runs("arguments reach the script", ["-o", "out", "job.sh", *_EVIL], script=_SHOW),
    runs("variables reach the script", ["-o", "out", "--export=ALL,EVIL=a b 'c", "job.sh"], script=_SHOW),
    runs("a wrapped command", ["-o", "out", "--wrap=echo \"$#\" '$HOME' \\\\ `echo x`; ulimit -n"]),
    runs("a script on stdin", ["-o", "out", "-J", "fed"], stdin=_SHOW, through='umask 027; ulimit -n 512; "$@"'),
    runs("a file for stdin of the script", "-o out -i words.txt job.sh", script=_SHOW, files={"words.txt": b"words\n"}),
    runs("--wait", "--wait -o out job.sh", script=b"#!/bin/sh\necho done\n"),
    runs("-W of a job that fails", "-W -o out job.sh", script=b"#!/bin/sh\nexit 7\n"),
    runs("SBATCH_WAIT, --parsable", "--parsable -o out job.sh", env={"SBATCH_WAIT": "1"}, script=b"#!/bin/sh\nexit 3\n"),
]

GROUPS = {
    "form": FORMS,
    "long option": LONG_OPTIONS,
    "short option": SHORT_OPTIONS,
    "abbreviation": ABBREVIATIONS,
    "het job": HET_JOBS,
    "environment": ENVIRONMENT,
    "script line": SCRIPT_LINES,
    "precedence": PRECEDENCE,
    "hostile": HOSTILE,
}
SUBMISSIONS = [(f"{group}: {case.name}", case) for group, cases in GROUPS.items() for case in cases]
