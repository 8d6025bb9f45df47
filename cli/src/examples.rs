//! One example for each command, at the end of its `--help` and of its manual page.
//!
//! Invariant: every command that somebody can call has one, and each is a call that the command
//! line takes, as it is printed on a terminal of 80 columns: a line that is broken there would be
//! two commands to whoever pastes it. The test below reads and parses them all.

use clap::Command;

/// By the words of the command.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "verify",
        concat!(
            "assay verify registry.example/team/app:1.2 --policy policy.toml\n",
            "assay verify registry.example/team/app:1.2 --any-signer --explain",
        ),
    ),
    ("assemble", "assay assemble app.yaml --as apko=1.2.39 --output layout"),
    (
        "diff",
        concat!(
            "assay diff registry.example/app:1.1 registry.example/app:1.2 \\\n",
            "    --platform linux/amd64",
        ),
    ),
    ("policy init", "assay policy init registry.example/team/app:1.2 > policy.toml"),
    ("policy check", "assay policy check policy.toml"),
    ("policy explain", "assay policy explain policy.toml"),
    (
        "coordinator init",
        concat!(
            "assay coordinator init /srv/assay --name coordinator.example \\\n",
            "    --listen 0.0.0.0:7443",
        ),
    ),
    ("coordinator run", "assay coordinator run /srv/assay"),
    ("coordinator check-config", "assay coordinator check-config /srv/assay"),
    ("coordinator reindex", "assay coordinator reindex /srv/assay"),
    ("coordinator fsck", "assay coordinator fsck /srv/assay --format json"),
    ("coordinator backup", "assay coordinator backup /srv/assay /srv/backup"),
    ("coordinator restore", "assay coordinator restore /srv/backup /srv/assay"),
    ("operator keygen", "assay operator keygen acme --dir /srv/operators"),
    ("operator add", "assay operator add acme --root-key acme.key"),
    (
        "operator enroll-worker",
        concat!(
            "assay operator enroll-worker worker.pub --operator acme \\\n",
            "    --root-key acme.key",
        ),
    ),
    ("operator list", "assay operator list --format json"),
    (
        "operator rotate",
        concat!(
            "assay operator rotate new.pub --old old.pub --operator acme \\\n",
            "    --root-key acme.key",
        ),
    ),
    (
        "operator revoke",
        concat!(
            "assay operator revoke worker.pub --operator acme --root-key acme.key \\\n",
            "    --since 2026-11-01T00:00:00Z",
        ),
    ),
    (
        "worker init",
        concat!(
            "assay worker init /srv/worker --operator acme \\\n",
            "    --coordinator https://coordinator.example:7443 --ca ca.pem \\\n",
            "    --coordinator-key verdict.pub --policy policy.toml",
        ),
    ),
    ("worker run", "assay worker run /srv/worker"),
    ("worker doctor", "assay worker doctor /srv/worker"),
    ("worker drain", "assay worker drain sha256:37a6… --undo"),
    ("submit", "assay submit registry.example/team/app:1.2 --wait"),
    ("status", "assay status\nassay status registry.example/team/app@sha256:37a6…"),
    (
        "explain",
        concat!(
            "assay explain registry.example/team/app@sha256:37a6…\n",
            "assay explain registry.example/team/app@sha256:37a6… \\\n",
            "    --evidence kept --policy policy.toml",
        ),
    ),
    ("history", "assay history registry.example/team/app"),
    (
        "export",
        concat!(
            "assay export --table verdicts --format csv > verdicts.csv\n",
            "assay export registry.example/team/app --cursor 1234",
        ),
    ),
    ("watch add", "assay watch add registry.example/app --tags 'v*' --interval 900"),
    ("watch list", "assay watch list"),
    ("watch remove", "assay watch remove 8a82d22c62ea7fc9"),
    (
        "gate check",
        concat!(
            "assay gate check registry.example/app@sha256:37a6… --policy gate.toml \\\n",
            "    --evidence ./evidence",
        ),
    ),
    ("publish", "assay publish --dry-run"),
    ("unpark", "assay unpark registry.example/team/app@sha256:37a6…"),
    ("demo", "assay demo --keep demo"),
    ("completions", "assay completions bash > /etc/bash_completion.d/assay"),
    ("man", "assay man /usr/local/share/man/man1"),
];

/// The command line with its examples.
pub fn add(command: Command) -> Command {
    described(command, "")
}

fn described(mut command: Command, path: &str) -> Command {
    if let Some((_, text)) = EXAMPLES.iter().find(|(name, _)| *name == path) {
        let lines: Vec<String> = text.lines().map(|line| format!("\n  {line}")).collect();
        command = command.after_help(format!("Example:{}", lines.concat()));
    }
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        let below = format!("{path} {name}").trim().to_owned();
        command = command.mut_subcommand(&name, |subcommand| described(subcommand, &below));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    /// The commands that do something, as they are called.
    fn leaves(command: &Command, path: &str, found: &mut BTreeSet<String>) {
        for below in
            command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
        {
            let path = format!("{path} {}", below.get_name()).trim().to_owned();
            if below.get_subcommands().any(|c| c.get_name() != "help") {
                leaves(below, &path, found);
            } else {
                assert!(below.get_after_help().is_some(), "{path}: no example");
                found.insert(path);
            }
        }
    }

    /// The example lines of the help as it is printed on a narrow terminal.
    fn printed(command: &Command, name: &str) -> Vec<String> {
        let mut at = command.clone();
        for word in name.split(' ') {
            at = at.find_subcommand(word).unwrap().clone();
        }
        let help = at.term_width(80).render_long_help().to_string();
        let (_, examples) = help.rsplit_once("Example:").unwrap();
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        let joined = examples.replace("\\\n", " ");
        joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn every_command_has_an_example_that_it_takes_as_it_is_printed() {
        let command = add(crate::Cli::command());
        let mut found = BTreeSet::new();
        leaves(&command, "", &mut found);
        let named: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(named, found);
        assert_eq!(named.len(), EXAMPLES.len());
        for (name, _) in EXAMPLES {
            let lines = printed(&command, name);
            assert!(!lines.is_empty(), "{name}");
            for line in lines {
                let call = line.split(" > ").next().unwrap_or_default().replace('\'', "");
                assert!(call.starts_with(&format!("assay {name}")), "{name}: {call}");
                let words = call.split_whitespace();
                // The environment of who runs the tests has no coordinator.
                let given = ["--coordinator", "https://c:1", "--key", "k"];
                let command = command.clone();
                let plain = command.clone().try_get_matches_from(words.clone());
                let with = command.try_get_matches_from(words.chain(given));
                assert!(plain.is_ok() || with.is_ok(), "{call}: {:?}", with.err());
            }
        }
    }
}
