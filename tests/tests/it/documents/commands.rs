//! Command lines in documents: commands and flags of each line that begins with `matyan` are checked against the help.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use matyan_tests::server::binary;

use super::{check, documents, spans};

/// Help of each command; none for unknown commands.
#[derive(Default)]
struct HelpCache(BTreeMap<Vec<String>, Option<Help>>);

#[derive(Clone)]
struct Help {
    commands: BTreeSet<String>,
    flags: BTreeSet<String>,
}

impl HelpCache {
    fn for_command(&mut self, command: &[String]) -> Option<Help> {
        self.0.entry(command.to_vec()).or_insert_with(|| run_help(command)).clone()
    }

    /// The first problem in the arguments of a command line, if any.
    fn problem(&mut self, line: &str) -> Option<String> {
        let words = words(line);
        let mut command = Vec::new();
        let mut help = self.for_command(&command).expect("the program prints its help");
        for word in &words {
            let is_command = !help.commands.is_empty() && !word.starts_with('-');
            if is_command {
                if !help.commands.contains(word) {
                    return Some(format!("`{}` has no command `{word}`", display_name(&command)));
                }
                command.push(word.clone());
                help = self.for_command(&command)?;
            } else if let Some(flag) = flag(word).filter(|flag| !help.flags.contains(*flag)) {
                return Some(format!("`{}` has no flag `{flag}`", display_name(&command)));
            }
        }
        None
    }
}

fn display_name(command: &[String]) -> String {
    ["matyan"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn run_help(command: &[String]) -> Option<Help> {
    let output =
        Command::new(binary()).args(command).arg("--help").env_clear().output().expect("the binary starts");
    let text = String::from_utf8(output.stdout).expect("help is text");
    let in_list = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let commands = text.split("\nCommands:\n").nth(1).unwrap_or_default();
    let commands = commands.lines().take_while(|line| !line.is_empty()).filter(in_list);
    let options = text.lines().filter(|line| line.trim_start().starts_with('-'));
    let flags = options.flat_map(|line| line.split([' ', ','])).filter_map(flag);
    output.status.success().then(|| Help {
        commands: commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect(),
        flags: flags.map(str::to_owned).collect(),
    })
}

fn flag(word: &str) -> Option<&str> {
    let name = word.split('=').next().unwrap_or_default();
    name.strip_prefix("--").is_some_and(|name| !name.is_empty()).then_some(name)
}

/// The words of a command line up to where a shell ends the command. A quoted text is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split(['\'', '"']).enumerate() {
        if number % 2 == 1 {
            words.push("quoted".to_owned());
            continue;
        }
        for word in part.split_whitespace() {
            if ["|", "&&", "&", "#", ";", "\\", "…", ">"].contains(&word) {
                return words;
            }
            words.push(word.trim_end_matches([',', '.', ';', ':']).to_owned());
        }
    }
    words
}

/// Arguments of `matyan` in the command lines of a document.
fn command_lines(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if is_fenced || line.trim_start().starts_with("ExecStart=") {
            found.extend(program_arguments(line).map(str::to_owned));
        }
        found.extend(spans(line).flat_map(program_arguments).map(str::to_owned));
        if path.contains("/compose/") || path.contains("/docker/") {
            found.extend(in_list(line));
        }
    }
    found
}

/// Arguments of `matyan` in code, also when another program runs it: `sudo`, `docker run … matyan`,
/// `kubectl exec … --`. A path counts as a program only at the start, and `matyan` before a path is a name.
fn program_arguments(code: &str) -> impl Iterator<Item = &str> {
    let is_program = |before: &str| {
        before.is_empty()
            || before.ends_with([' ', '$', '(']) && !before.contains("# ")
            || before.ends_with('/') && !before.contains(' ')
    };
    let is_argument = |rest: &&str| rest.split_whitespace().next().is_some_and(|word| !word.contains('/'));
    let starts = code.match_indices("matyan ").filter(move |(at, _)| is_program(&code[..*at]));
    starts.map(|(at, program)| &code[at + program.len()..]).filter(is_argument)
}

/// Arguments in a list, as in `command: ["frontier"]` or `test: ["CMD", "matyan", "status"]`.
fn in_list(line: &str) -> Option<String> {
    let is_ours = ["command: [", "CMD [\"up", "\"matyan\", "].iter().any(|start| line.contains(start));
    let list = line.split_once('[').filter(|_| is_ours)?.1;
    let words: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    let first = words.iter().position(|word| *word == "matyan").map_or(0, |program| program + 1);
    Some(words[first..].join(" "))
}

#[test]
fn command_lines_are_valid() {
    let mut helps = HelpCache::default();
    let mut problems = Vec::new();
    let mut count = 0;
    for (path, text) in documents() {
        for line in command_lines(&path, &text) {
            count += 1;
            problems.extend(helps.problem(&line).map(|problem| format!("{path}: {problem}")));
        }
    }
    assert!(count > 30, "only {count} command lines were found");
    check(problems);
}

/// The commands are in one table of the chart.
#[test]
fn the_chart_runs_commands_that_exist() {
    let helpers = super::text("deploy/helm/matyan/templates/_helpers.tpl");
    let roles: Vec<_> = helpers
        .lines()
        .filter(|line| line.contains(": {values: "))
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(roles.len(), 4);
    let mut helps = HelpCache::default();
    let lines = roles.into_iter().chain(["topics create", "bucket create"]);
    check(lines.filter_map(|line| helps.problem(line)).collect());
}

#[test]
fn unknown_commands_and_flags_are_detected() {
    let mut helps = HelpCache::default();
    for wrong in ["down", "up --prot 1", "runs find x", "runs search 'a --b' --explian", "backup --dry-run"] {
        assert!(helps.problem(wrong).is_some(), "{wrong}");
    }
    for right in
        ["up --port=0 | cat", "runs search 'a --b' --explain", "--version", "restore x --dry-run # so"]
    {
        assert_eq!(helps.problem(right), None);
    }
    let lines = "Use `matyan up`, not `matyan-client x`.\n```sh\n$ matyan status && sudo matyan runs ls\n# a matyan server\n```\n";
    assert_eq!(command_lines("a.md", lines), ["up", "status && sudo matyan runs ls", "runs ls"]);
    assert_eq!(in_list("test: [\"CMD\", \"matyan\", \"status\"]").as_deref(), Some("status"));
}
