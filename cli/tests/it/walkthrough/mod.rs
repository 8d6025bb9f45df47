//! docs/OPERATING.md, run: every command of the page, each role a process, over real registries.
//!
//! The page is read, not copied, so it cannot say what does not work. Beyond the page the test
//! looks at what stock verifiers accept (`cosign`), and that an index made again from the journal
//! gives Get, History and Evidence byte for byte.

mod answers;
mod page;
mod verifiers;

use crate::{
    peer::{self, free_port},
    stage::{Host, IMAGES, Stage, fixtures},
};
use page::{Block, Line, Section};

/// The page has this many commands at least, so that a change of its form cannot empty the test.
const COMMANDS_MIN: usize = 60;

struct Walk {
    stage: Stage,
    host: Host,
    ports: (u16, u16),
    commands: usize,
}

impl Walk {
    async fn over(host: Host) -> Self {
        host.fill(&IMAGES).await;
        let stage = Stage::new();
        let from = fixtures();
        std::fs::create_dir_all(stage.path("srv")).unwrap();
        std::fs::create_dir_all(stage.path("home")).unwrap();
        // What the page takes for granted: the publisher's key, and a mirror of the packages.
        std::fs::copy(from.join("keys/publisher.pub"), stage.path("srv/publisher.pub")).unwrap();
        stage.expect(&format!("cp -r {} srv/packages", from.join("packages").display()), 0);
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
        stage.expect(&format!("ln -s {deploy} deploy"), 0);
        Self { stage, host, ports: (free_port(), free_port()), commands: 0 }
    }

    fn page(&self) -> Vec<Section> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
        let text = std::fs::read_to_string(path).unwrap();
        let folder = format!("{}/", self.stage.path("srv").display());
        let (grpc, https) = (self.ports.0.to_string(), self.ports.1.to_string());
        let sidecar = format!("assay/{}/", self.host.name().replace(':', "_"));
        let names = [
            ("assay/registry.example/", sidecar.as_str()),
            ("registry.example", self.host.name()),
            ("/srv/", folder.as_str()),
            ("7443", grpc.as_str()),
            ("7480", https.as_str()),
        ];
        let replace = |text: &str| {
            names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        };
        page::read(&text, &replace)
    }

    fn play(&mut self, section: &Section) {
        for block in &section.blocks {
            match block {
                Block::File { path, text } => std::fs::write(path, text).unwrap(),
                Block::Shell { tags, commands } => {
                    if !self.prepare(tags) {
                        continue;
                    }
                    for command in commands {
                        self.commands += 1;
                        self.one(command);
                    }
                }
            }
        }
    }

    /// What has to be so before a tagged block; false where it cannot be run here.
    fn prepare(&self, tags: &[String]) -> bool {
        match tags.first().map(String::as_str) {
            None => true,
            Some("published") => {
                let pending = "assay publish --dry-run --format json";
                self.stage.until(pending, |out| out.contains("\"publications\":[]"));
                true
            }
            Some("cosign") => peer::program("cosign").is_some(),
            Some(other) => panic!("a tag that the test does not know: {other}"),
        }
    }

    fn one(&mut self, Line { text, exit }: &Line) {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["export", setting] => {
                let (name, value) = setting.split_once('=').unwrap();
                self.stage.env.insert(name.to_owned(), value.to_owned());
            }
            ["assay", "coordinator", "run", _] => {
                self.stage.start("assay-coordinator", text, Some("gRPC on"));
                self.stage.env.insert("COORDINATOR_RUN".into(), text.clone());
            }
            ["assay", "worker", "run", folder] => {
                let operator = folder.rsplit('/').nth(1).unwrap();
                let name = format!("assay-worker@{operator}");
                self.stage.start(&name, text, Some("worker started"));
            }
            ["systemctl", "stop", names @ ..] => {
                for name in names {
                    self.stage.stop(name);
                }
            }
            ["systemctl", "start", "assay-coordinator"] => {
                let run = self.stage.env["COORDINATOR_RUN"].clone();
                self.stage.start("assay-coordinator", &run, Some("gRPC on"));
            }
            _ => drop(self.stage.expect(text, *exit)),
        }
    }
}

async fn walk(host: Host) {
    let mut walk = Walk::over(host).await;
    let mut before = None;
    for section in walk.page() {
        if section.title.starts_with("7.") {
            verifiers::accept_only_what_was_reproduced(&walk.stage, walk.host.name());
            before = Some(answers::all(&walk.stage, walk.ports.0, walk.host.name()).await);
        }
        walk.play(&section);
    }
    assert!(walk.commands >= COMMANDS_MIN, "the page has only {} commands", walk.commands);
    let after = answers::all(&walk.stage, walk.ports.0, walk.host.name()).await;
    assert!(before.unwrap() == after, "an index that was made again answers otherwise");
    walk.stage.stop("assay-coordinator");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_registry_without_the_referrers_api() {
    let host = match peer::debian("").await {
        Some(peer) => Host::Program(peer),
        None => Host::own(false, None).await,
    };
    walk(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_registry_with_the_referrers_api() {
    let host = match peer::ggcr().await {
        Some(peer) => Host::Program(peer),
        None => Host::own(true, None).await,
    };
    walk(host).await;
}
