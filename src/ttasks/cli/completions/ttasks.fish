# Completion of ttasks for fish. Load it with: ttasks completion fish | source

# Names of a kind; of tasks only those of a target on the command line, if it has one.
function __ttasks_names
    set -l file @NAMES@
    test -n "$TTASKS_STORE"; and set file $TTASKS_STORE@SUFFIX@
    test -r $file; or return
    set -l words (commandline -opc)
    set -l all
    set -l mine
    while read -l line
        set -l columns (string split \t -- $line)
        test "$columns[1]" = $argv[1]; or continue
        set -a all $columns[3]
        contains -- "$columns[2]" $words; and set -a mine $columns[3]
    end <$file
    test (count $mine) -gt 0; and set all $mine
    printf '%s\n' $all
end

function __ttasks_modes
    printf '%s\n' @MODES@
end

complete -c ttasks -n __fish_use_subcommand -f -l help -d 'show help'
complete -c ttasks -n __fish_use_subcommand -f -l version -d 'print the version'
@LINES@
