//! Commands and flags: all that `nebh --help` knows is on docs/commands.md, and all that the pages name exists.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::Page;
use super::pages;
use crate::support::{nebh, succeed};
use crate::tidy::without_tests;

/// The page that lists them.
const PAGE: &str = "docs/commands.md";
/// Its section about what every command takes.
const GLOBALS: &str = "Flags of every command";
/// Flags that clap itself gives.
const CLAPS: &[&str] = &["--help", "--version"];

/// One command, as its help tells it.
#[derive(Debug, Default)]
struct Known {
    /// `nebh lock [DIR]`
    usage: String,
    /// Its flags, with those of every command.
    flags: BTreeSet<String>,
    /// Names of the variables that its help names.
    variables: BTreeSet<String>,
    /// True if commands stand below it and it does nothing itself.
    is_group: bool,
}

/// Every command by its path, `gateway retention plan`; the program itself is the empty path.
fn known() -> BTreeMap<String, Known> {
    let mut all = BTreeMap::new();
    let mut asked = vec![String::new()];
    while let Some(path) = asked.pop() {
        let help = succeed(nebh().args(path.split_whitespace()).arg("-h"));
        let (mut command, below) = read_help(&help);
        if path.is_empty() {
            command.flags.remove("--version");
        }
        asked.extend(below.iter().map(|name| format!("{path} {name}").trim().to_owned()));
        all.insert(path, command);
    }
    assert!(all.len() > 20, "the help is read: {:?}", all.keys());
    all
}

fn read_help(help: &str) -> (Known, Vec<String>) {
    let (mut command, mut below, mut section) = (Known::default(), Vec::new(), "");
    for line in help.lines() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            command.usage = usage.replace(" [OPTIONS]", "");
        } else if line.ends_with(':') && !line.starts_with(' ') {
            section = line;
        } else if section == "Commands:" && line.starts_with("  ") && !line.starts_with("   ") {
            let name = line.split_whitespace().next().unwrap_or_default();
            below.extend((name != "help").then(|| name.to_owned()));
        } else if section == "Options:" && line.trim_start().starts_with('-') {
            command.flags.extend(line.split_whitespace().take(2).filter_map(flag));
        }
        let variables = line.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        command.variables.extend(variables.map(str::to_owned));
    }
    command.is_group = !below.is_empty();
    command.flags.remove("--help");
    (command, below)
}

/// `--to` of `[--to=REPOSITORY]…`.
fn flag(word: &str) -> Option<String> {
    let word = word.trim_start_matches(['[', '(']);
    let name: String = word.strip_prefix("--")?.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
    (!name.is_empty()).then(|| format!("--{name}"))
}

fn globals(known: &BTreeMap<String, Known>) -> &BTreeSet<String> {
    &known[""].flags
}

/// Headings of the page, each with the codes below it.
fn sections(page: &Page) -> Vec<(usize, String, Vec<String>)> {
    let mut sections: Vec<(usize, String, Vec<String>)> = Vec::new();
    for (number, line) in page.prose() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            sections.push((number, title.trim_matches('`').to_owned(), Vec::new()));
        } else if let Some((_, _, codes)) = sections.last_mut() {
            codes.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    sections
}

#[test]
fn page_of_commands_says_what_the_help_says() {
    let known = known();
    let pages = pages();
    let page = pages.iter().find(|page| page.name == PAGE).expect("the page of commands");
    let sections = sections(page);
    let mut wrong = Vec::new();
    for (path, command) in known.iter().filter(|(_, command)| !command.is_group) {
        let Some((line, _, codes)) = sections.iter().find(|(_, title, _)| *title == command.usage) else {
            wrong.push(format!("{PAGE}: no section `### `{}``", command.usage));
            continue;
        };
        let named: BTreeSet<String> = codes.iter().filter_map(|code| flag(code)).collect();
        let own: BTreeSet<String> = command.flags.difference(globals(&known)).cloned().collect();
        let missing: Vec<_> = own.difference(&named).collect();
        // A section may speak of what every command takes, or of a neighbour; what it may not is leave one out.
        let strange: Vec<_> = named.difference(&command.flags).collect();
        if !missing.is_empty() || !strange.is_empty() {
            wrong.push(format!("{PAGE}:{line}: nebh {path}: not named {missing:?}, not there {strange:?}"));
        }
    }
    for (line, title, _) in sections.iter().filter(|(_, title, _)| title.starts_with("nebh ")) {
        if !known.values().any(|command| command.usage == *title) {
            wrong.push(format!("{PAGE}:{line}: no command has the usage `{title}`"));
        }
    }
    let of_all = sections.iter().find(|(_, title, _)| title == GLOBALS).map(|(_, _, codes)| codes.clone());
    let of_all: BTreeSet<String> = of_all.unwrap_or_default().iter().filter_map(|code| flag(code)).collect();
    assert_eq!(&of_all, globals(&known), "{PAGE}, `## {GLOBALS}`");
    for variable in known.values().flat_map(|command| &command.variables) {
        if !page.codes().iter().any(|code| code.text == *variable) {
            wrong.push(format!("{PAGE}: variable `{variable}` is not named"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn exit_codes_of_the_page_are_those_of_the_program() {
    use nebh_face::Exit;
    let codes = [
        Exit::Failed,
        Exit::Usage,
        Exit::Refused,
        Exit::Unreachable,
        Exit::ChangedBack,
        Exit::NeedsOperator,
        Exit::Interrupted,
    ];
    let wanted: Vec<u32> = [0].into_iter().chain(codes.map(|code| u32::from(code.code()))).collect();
    let pages = pages();
    let page = pages.iter().find(|page| page.name == PAGE).expect("the page of commands");
    let table = page.text.split("## Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.parse::<u32>().ok());
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
}

/// What is wrong with the words behind `nebh`.
fn misuse(words: &[&str], known: &BTreeMap<String, Known>) -> Option<String> {
    let (mut path, mut rest) = (String::new(), words.iter());
    while known[&path].is_group {
        let Some(word) = rest.next() else { break };
        // Flags of every command may stand in front; these two have a value behind them.
        if ["--settings", "--output", "-o"].contains(word) {
            rest.next();
        }
        if word.starts_with('-') {
            continue;
        }
        // `nebh <verb>` speaks of commands in general.
        if word.starts_with('<') {
            break;
        }
        let children: Vec<String> = word.split('|').map(|name| format!("{path} {name}").trim().to_owned()).collect();
        if let Some(strange) = children.iter().find(|child| !known.contains_key(*child)) {
            return Some(format!("there is no command `nebh {strange}`"));
        }
        path.clone_from(&children[0]);
        if children.len() > 1 {
            return None;
        }
    }
    let command = &known[&path];
    let strange = words.iter().filter_map(|word| flag(word)).find(|flag| {
        let is_claps = CLAPS.contains(&flag.as_str());
        !is_claps && !command.flags.contains(flag) && !globals(known).contains(flag)
    });
    strange.map(|flag| format!("`nebh {path}` has no flag `{flag}`"))
}

/// The words of each call of `nebh` in a script, up to whatever ends a command.
fn calls(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ").replace("$(", "\n").replace(')', " ) ");
    let mut calls = Vec::new();
    for line in script.lines() {
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if word == "nebh" {
                let ends = |word: &&str| {
                    ["|", "||", "&", ";", ")", "#"].contains(word) || word.starts_with('>') || word.starts_with("2>")
                };
                let mut call = Vec::new();
                while let Some(word) = words.next_if(|word| !ends(word)) {
                    call.push(word.trim_matches(['"', '\'', ';']).to_owned());
                }
                calls.push(call);
            } else if word.starts_with('#') {
                break;
            }
        }
    }
    calls
}

#[test]
fn every_command_and_flag_that_a_page_names_exists() {
    let known = known();
    let every: BTreeSet<&String> = known.values().flat_map(|command| &command.flags).collect();
    let (mut looked, mut wrong) = (0, Vec::new());
    for page in pages() {
        for code in page.codes() {
            let mut words = code.text.split_whitespace();
            let first = words.next().unwrap_or_default();
            let found = if first == "nebh" {
                looked += 1;
                misuse(&words.collect::<Vec<_>>(), &known)
            } else {
                let strange = flag(first).filter(|flag| !every.contains(flag) && !CLAPS.contains(&flag.as_str()));
                strange.map(|flag| format!("no command has a flag `{flag}`"))
            };
            wrong.extend(found.map(|what| format!("{}: {what}", code.place)));
        }
        for block in page.blocks().iter().filter(|block| matches!(block.language.as_str(), "sh" | "console")) {
            for call in calls(&block.text) {
                looked += 1;
                let words: Vec<&str> = call.iter().map(String::as_str).collect();
                wrong.extend(misuse(&words, &known).map(|what| format!("{}: {what}", block.place())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked > 100, "only {looked} calls of nebh are found in the pages");
}

/// Rust files of the program outside of their tests, each with its text.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders: Vec<_> = ["face", "oci", "trust", "builder", "registry-gateway", "deployer"]
        .map(|part| super::root().join(part).join("src"))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.extend((entry.file_name() != "tests").then_some(path));
            } else if path.extension().is_some_and(|end| end == "rs") && entry.file_name() != "tests.rs" {
                let text = std::fs::read_to_string(&path).expect("a source");
                let text = without_tests(&text).to_owned();
                sources.push((path.strip_prefix(super::root()).expect("below").display().to_string(), text));
            }
        }
    }
    sources
}

/// What a message tells a person to type has to be there to be typed.
#[test]
fn every_command_and_flag_that_a_message_names_exists() {
    let known = known();
    let (mut looked, mut wrong) = (0, Vec::new());
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for piece in line.split("nebh ").skip(1).filter(|_| !line.trim_start().starts_with("//!")) {
                // Holes of a format string stand for names; the rest of the sentence does not belong to the command.
                let command = piece.split(['`', '"', '{', ';', '(', ':', ',']).next().unwrap_or_default();
                let words: Vec<&str> = command.split_whitespace().take_while(|word| *word != "…").collect();
                let is_command = words.first().is_some_and(|word| known.keys().any(|path| path == *word));
                let quoted = line.contains(&format!("`nebh {command}`"));
                looked += usize::from(is_command);
                let found = if is_command || quoted { misuse(&words, &known) } else { None };
                wrong.extend(found.map(|what| format!("{file}:{}: {what}", number + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked > 30, "only {looked} commands are found in messages");
}

#[test]
fn calls_of_a_script_are_found_with_their_words() {
    let script =
        "X=$(nebh -q build a \\\n  --to b) # nebh c\nnebh node run --settings n.yaml >log 2>&1 &\nnebh x || nebh y\n";
    let calls = calls(script);
    assert_eq!(calls[0], ["-q", "build", "a", "--to", "b"]);
    assert_eq!(calls[1], ["node", "run", "--settings", "n.yaml"]);
    assert_eq!(calls[2..], [vec!["x".to_owned()], vec!["y".to_owned()]]);
}
