//! docs/OPERATING.md as a program: its fenced blocks, in their order.
//!
//! | block | what it is |
//! |---|---|
//! | `sh` | commands; `# exit N` behind one is its exit code, else 0; `\` goes on in the next line |
//! | `sh for=acme,globex` | the block again for each, its first name replaced by the others |
//! | `sh TAG` | commands before which the test has something to do |
//! | `toml file=PATH` | what the file is to hold |
//!
//! Invariant: a block of another kind is an error, so that nothing on the page goes unrun.

/// A block of a section.
#[derive(Debug)]
pub enum Block {
    /// Commands.
    Shell {
        /// The words behind `sh`.
        tags: Vec<String>,
        /// The commands.
        commands: Vec<Line>,
    },
    /// A file.
    File {
        /// Where.
        path: String,
        /// What it holds.
        text: String,
    },
}

/// One command.
#[derive(Debug, Clone)]
pub struct Line {
    /// As bash reads it.
    pub text: String,
    /// The exit code that the page promises.
    pub exit: i32,
}

/// A part of the page under a heading.
#[derive(Debug)]
pub struct Section {
    /// The heading, `6. The gate`.
    pub title: String,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// Reads the page; `replace` gives the test's own names to it.
pub fn read(page: &str, replace: &dyn Fn(&str) -> String) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title: title.to_owned(), blocks: Vec::new() });
        }
        let Some(info) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let section = sections.last_mut().expect("a heading before the first block");
        section.blocks.extend(blocks(info, &replace(&body.join("\n")), replace));
    }
    sections
}

fn blocks(info: &str, body: &str, replace: &dyn Fn(&str) -> String) -> Vec<Block> {
    let mut words = info.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let words: Vec<String> = words.map(str::to_owned).collect();
    match (kind, words.first().and_then(|word| word.split_once('='))) {
        ("toml", Some(("file", path))) => {
            vec![Block::File { path: replace(path), text: format!("{body}\n") }]
        }
        ("sh", Some(("for", names))) => {
            let names: Vec<&str> = names.split(',').collect();
            let shell = |name: &&str| Block::Shell {
                tags: Vec::new(),
                commands: commands(&body.replace(names[0], name)),
            };
            names.iter().map(shell).collect()
        }
        ("sh", None) => vec![Block::Shell { tags: words, commands: commands(body) }],
        _ => panic!("a block that the test cannot run: ```{info}"),
    }
}

fn commands(body: &str) -> Vec<Line> {
    let joined = body.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.trim().is_empty());
    let read = |line: &str| match line.rsplit_once("# exit ") {
        Some((text, code)) => {
            let exit = code.trim().parse().expect("a number behind `# exit`");
            Line { text: text.trim().to_owned(), exit }
        }
        None => Line { text: line.to_owned(), exit: 0 },
    };
    lines.map(read).collect()
}

#[test]
fn blocks_become_commands() {
    let page = "# T\n## 1. A\n```sh for=a,b\nrun a \\\n  on # exit 3\n```\n## 2. B\n\
                ```toml file=/srv/x\nk = 1\n```\n```sh cosign\nc\n```\n";
    let sections = read(page, &|text| text.replace("/srv", "/here"));
    assert_eq!(sections.len(), 2);
    let [Block::Shell { commands: first, .. }, Block::Shell { commands: second, .. }] =
        sections[0].blocks.as_slice()
    else {
        panic!("{sections:?}")
    };
    assert_eq!((first[0].text.as_str(), first[0].exit), ("run a    on", 3));
    assert_eq!(second[0].text, "run b    on");
    let [Block::File { path, text }, Block::Shell { tags, .. }] = sections[1].blocks.as_slice()
    else {
        panic!("{sections:?}")
    };
    assert_eq!((path.as_str(), text.as_str()), ("/here/x", "k = 1\n"));
    assert_eq!(tags, &["cosign"]);
}
