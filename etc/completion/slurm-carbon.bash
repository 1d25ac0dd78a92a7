# Completion of slurm-carbon.
_slurm_carbon() {
    local current=${COMP_WORDS[COMP_CWORD]} words="--config --version outlook reoptimize queue explain forecast plan hook config"
    case ${COMP_WORDS[COMP_CWORD - 1]} in # the name of a file follows
        --config | --facts | --record-facts | --output | --plot | --history | --weather | --slurm-conf) return ;;
        --mode)
            mapfile -t COMPREPLY < <(compgen -W "observe advise enforce" -- "$current")
            return
            ;;
    esac
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
        *\ outlook\ refresh\ *) words="--facts --record-facts" ;;
        *\ outlook\ show\ *) words="--json" ;;
        *\ outlook\ plot\ *) words="--output --mark --run-time" ;;
        *\ outlook\ *) words="refresh show plot" ;;
        *\ reoptimize\ *) words="--dry-run --mode --own --ledger --json --quiet" ;;
        *\ queue\ *) words="--all --user --ledger --json" ;;
        *\ explain\ *) words="-M --cluster --ledger --json" ;;
        *\ forecast\ show\ *) words="--sources --hours --json --plot" ;;
        *\ forecast\ fit\ *) words="--history --weather" ;;
        *\ forecast\ score\ *) words="--json" ;;
        *\ forecast\ *) words="show fit score" ;;
        *\ plan\ *) words="--json --plot --solver-time" ;;
        *\ hook\ install\ *) words="--slurm-conf --dry-run --no-cli-filter --slurm-user" ;;
        *\ hook\ uninstall\ *) words="--slurm-conf --dry-run" ;;
        *\ hook\ status\ *) words="--slurm-conf" ;;
        *\ hook\ test\ *) words="--slurm-conf --user" ;;
        *\ hook\ *) words="install uninstall status test" ;;
        *\ config\ init\ *) words="--zone --slurm-conf --filesystem" ;;
        *\ config\ show\ * | *\ config\ check\ *) words="" ;;
        *\ config\ *) words="show check init" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _slurm_carbon slurm-carbon
