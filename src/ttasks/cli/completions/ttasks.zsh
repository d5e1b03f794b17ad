#compdef ttasks
# Completion of ttasks for zsh. Load it with: source <(ttasks completion zsh)

# Names of a kind; of tasks only those of a target on the command line, if it has one.
_ttasks_names() {
  local file=${TTASKS_STORE:+$TTASKS_STORE@SUFFIX@} kind target name
  local -a mine all
  file=${file:-@NAMES@}
  [[ -r $file ]] || return 1
  while IFS=$'\t' read -r kind target name; do
    # A tab is blank: an empty column in the middle is skipped.
    [[ $kind == run ]] && name=$target
    [[ $kind == $1 && -n $name ]] || continue
    all+=("$name")
    [[ $kind == task ]] && (( ${words[(Ie)$target]} )) && mine+=("$name")
  done < $file
  (( $#mine )) && all=("${mine[@]}")
  compadd -- "${all[@]}"
}

_ttasks_modes() {
  compadd -- @MODES@
}

_ttasks() {
  local -a commands
  commands=(
    @COMMANDS@
  )
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    compadd -- --help --version
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
@CASES@
  esac
}

if (( ! $+functions[compdef] )); then
  autoload -Uz compinit && compinit -u
fi
compdef _ttasks ttasks
