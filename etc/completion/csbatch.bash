# Completion of csbatch: Slurm's own for sbatch, and our options on top.
_csbatch() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local own="--carbon-max-delay= --carbon-finish-by= --carbon-locations= --carbon-off --carbon-dry-run
        --carbon-explain --carbon-verbose --carbon-help"
    case $previous in
        --carbon-max-delay) mapfile -t COMPREPLY < <(compgen -W "1h 3h 6h 12h 24h" -- "$current") && return ;;
        --carbon-finish-by) mapfile -t COMPREPLY < <(compgen -W "tomorrow now+1day" -- "$current") && return ;;
    esac
    if [[ $current == --carbon* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$own" -- "$current")
        [[ ${COMPREPLY[0]:-} == *= ]] && compopt -o nospace
        return
    fi
    if declare -F _sbatch >/dev/null; then
        _sbatch "$@"
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$own" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}
complete -o filenames -F _csbatch csbatch
