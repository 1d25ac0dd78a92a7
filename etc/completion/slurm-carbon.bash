# Completion of slurm-carbon.
_slurm_carbon() {
    local current=${COMP_WORDS[COMP_CWORD]} words="--config --version outlook forecast plan config"
    case ${COMP_WORDS[COMP_CWORD - 1]} in # the name of a file follows
        --config | --facts | --record-facts | --output | --plot | --history | --weather) return ;;
    esac
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
        *\ outlook\ refresh\ *) words="--facts --record-facts" ;;
        *\ outlook\ show\ *) words="--json" ;;
        *\ outlook\ plot\ *) words="--output --mark --run-time" ;;
        *\ outlook\ *) words="refresh show plot" ;;
        *\ forecast\ show\ *) words="--sources --hours --json --plot" ;;
        *\ forecast\ fit\ *) words="--history --weather" ;;
        *\ forecast\ score\ *) words="--json" ;;
        *\ forecast\ *) words="show fit score" ;;
        *\ plan\ *) words="--json --plot --solver-time" ;;
        *\ config\ init\ *) words="--zone --slurm-conf --filesystem" ;;
        *\ config\ show\ * | *\ config\ check\ *) words="" ;;
        *\ config\ *) words="show check init" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _slurm_carbon slurm-carbon
