"""The scripts that ``synadb completion SHELL`` prints. They complete commands, options, files, and
keys out of the file that is already on the command line."""

from __future__ import annotations

import argparse

# Commands whose arguments after PATH are keys.
KEY_COMMANDS = ("get", "put", "delete", "history")

BASH = """\
# bash completion for synadb; load with:  eval "$(synadb completion bash)"
_synadb() {
    local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$cur"))
        return
    fi
    case $command in
@OPTIONS@
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        return
    fi
    case $command:$COMP_CWORD in
        completion:2) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")) ;;
        @KEYS@)
            local IFS=$'\\n'
            COMPREPLY=($(compgen -W "$(synadb keys --limit 500 -p "$cur" -- \\
                "${COMP_WORDS[2]}" 2>/dev/null)" -- "$cur")) ;;
        *) COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
}
complete -o filenames -F _synadb synadb syna"""

ZSH = """\
#compdef synadb syna
# zsh completion for synadb; load with:  eval "$(synadb completion zsh)"
_synadb() {
    local -a commands options
    if (( CURRENT == 2 )); then
        commands=(
@DESCRIBED@
        )
        _describe command commands
        return
    fi
    case $words[2] in
@OPTIONS@
    esac
    if [[ $PREFIX == -* ]]; then
        compadd -- $options
        return
    fi
    case $words[2]:$CURRENT in
        completion:3) compadd bash zsh fish ;;
        @KEYS@)
            compadd -- ${(f)"$(synadb keys --limit 500 -p "$PREFIX" -- \\
                "${(Q)words[3]}" 2>/dev/null)"} ;;
        *) _files ;;
    esac
}
compdef _synadb synadb syna"""

FISH = """\
# fish completion for synadb; load with:  synadb completion fish | source
function __synadb_keys
    set -l words (commandline -opc)
    synadb keys --limit 500 -p (commandline -ct) -- $words[3] 2>/dev/null
end
@LINES@"""


def _commands() -> list[tuple[str, str, list[str]]]:
    """Name, help and options of every command, read off the parser."""
    from synadb.cli.parser import build

    parser = build()
    choices: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices = dict(action.choices)
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    return [
        (name, helps.get(name, sub.description or ""), sorted(sub._option_string_actions))
        for name, sub in choices.items()
    ]


def _bash() -> str:
    commands = _commands()
    options = "\n".join(f'        {name}) words="{" ".join(o)}" ;;' for name, _, o in commands)
    script = BASH.replace("@COMMANDS@", " ".join(name for name, _, _ in commands))
    keys = "|".join(f"{name}:3" for name in KEY_COMMANDS)
    return script.replace("@OPTIONS@", options).replace("@KEYS@", keys)


def _zsh() -> str:
    commands = _commands()
    described = "\n".join(f"            '{name}:{help}'" for name, help, _ in commands)
    options = "\n".join(f"        {name}) options=({' '.join(o)}) ;;" for name, _, o in commands)
    keys = "|".join(f"{name}:4" for name in KEY_COMMANDS)
    script = ZSH.replace("@DESCRIBED@", described)
    return script.replace("@OPTIONS@", options).replace("@KEYS@", keys)


def _fish() -> str:
    lines = []
    for program in ("synadb", "syna"):
        for name, help, options in _commands():
            lines.append(f"complete -c {program} -n __fish_use_subcommand -f -a {name} -d '{help}'")
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            for option in options:
                flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                lines.append(f"complete -c {program} {seen} {flag}")
            if name in KEY_COMMANDS:
                lines.append(f"complete -c {program} {seen} -a '(__synadb_keys)'")
        lines.append(
            f"complete -c {program} -n '__fish_seen_subcommand_from completion' -f "
            "-a 'bash zsh fish'"
        )
    return FISH.replace("@LINES@", "\n".join(lines))


def script(shell: str) -> str:
    """The completion script for "bash", "zsh" or "fish"."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()
