# Completion of ttasks for bash. Load it with: source <(ttasks completion bash)

# Command | options | options that take a value, and of which kind | kinds of the arguments
_ttasks_table() {
    cat <<'TABLE'
@TABLE@
TABLE
}

# Names of a kind, a line each; of tasks only those of a target on the command line, if it has one.
_ttasks_names() {
    local file=@NAMES@
    [ -z "${TTASKS_STORE-}" ] || file=$TTASKS_STORE@SUFFIX@
    [ -r "$file" ] || return
    TTASKS_WORDS=$(printf '%s\n' "${COMP_WORDS[@]}") awk -F '\t' -v kind="$1" '
        BEGIN {
            count = split(ENVIRON["TTASKS_WORDS"], words, "\n")
            for (at = 1; at <= count; at++) there[words[at]] = 1
        }
        $1 == kind { all[++number] = $3; if ($2 in there) mine[++own] = $3 }
        END {
            if (own) for (at = 1; at <= own; at++) print mine[at]
            else for (at = 1; at <= number; at++) print all[at]
        }' "$file"
}

# Words that begin as the current one. Names may have spaces, so a line is a word.
_ttasks_reply() {
    local word line bare=${cur//[\"\'\\]/}
    while IFS= read -r line; do
        [[ -n $line && $line == "$bare"* ]] || continue
        printf -v word '%q' "$line"
        COMPREPLY+=("$word")
    done
}

_ttasks_kind() {
    case $1 in
        task | run) _ttasks_reply < <(_ttasks_names "$1") ;;
        mode) COMPREPLY=($(compgen -W '@MODES@' -- "$cur")) ;;
        file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")) ;;
        folder) compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur")) ;;
        =*) COMPREPLY=($(compgen -W "${1#=}" -- "$cur")) ;;
    esac
}

_ttasks() {
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} IFS=$' \t\n' line fields value word place=0 at
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '@COMMANDS@ --help --version' -- "$cur"))
        return
    fi
    line=$(_ttasks_table | grep "^$command|") || return
    IFS='|' read -r -a fields <<<"$line"
    for value in ${fields[2]}; do
        if [ "${value%%=*}" = "$previous" ]; then
            _ttasks_kind "${value#*=}"
            return
        fi
    done
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "${fields[1]}" -- "$cur"))
        return
    fi
    for ((at = 2; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        [ "$word" = -- ] && return
        if [[ " ${fields[2]} " == *" $word="* ]]; then
            ((at++))
        elif [[ $word != -* ]]; then
            ((place++))
        fi
    done
    _ttasks_kind "${fields[3 + place]-}"
}

complete -F _ttasks ttasks
