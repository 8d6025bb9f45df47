//! A fresh repository and a configuration for it, from a seed: packages of several architectures
//! with an index, and an image that takes some of them.
//!
//! Invariant: everything follows from the seed; what is made is a repository that apko could use.

use super::build;
use attest::Digest;
use rebuild::{
    apk::{
        index::{Index, IndexLimits},
        package::{Package, PackageLimits},
        resolver::{Repository as Indexed, Resolver, Rules},
    },
    apko::ImageConfiguration,
    go::tar::{Header, Kind},
    source::Spool,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The platforms of every generated image.
pub const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True `percent` times out of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.flatten().take(count).collect()
    }

    /// Text or anything, of any small size, now and then of several deflate blocks.
    fn content(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => Vec::new(),
            1 => {
                let size = self.below(3000) + 1;
                self.bytes(size)
            }
            2 => vec![self.below(256) as u8; *self.pick(&[511, 512, 513, 70_000])],
            _ => {
                let words = ["amber", "basin", "cedar", "delta", "ember", "fjord"];
                let count = self.below(300) + 1;
                let text: Vec<&str> = (0..count).map(|_| *self.pick(&words)).collect();
                text.join(" ").into_bytes()
            }
        }
    }
}

/// One package file and its record in the index.
struct Made {
    name: String,
    file: Vec<u8>,
    record: String,
}

/// The packages of one architecture.
pub struct Repository {
    made: Vec<Made>,
    index: Index,
}

fn entries(random: &mut Random, number: usize) -> Vec<(Header, Vec<u8>)> {
    let own = format!("usr/share/p{number}");
    let mut entries = ["usr", "usr/bin", "usr/share", own.as_str()].map(build::directory).to_vec();
    let mut program = build::file(&format!("usr/bin/tool-{number}"), &random.bytes(100));
    program.0.mode = 0o755;
    entries.push(program);
    for place in 0..random.below(6) + 1 {
        let long = if random.chance(10) { "n".repeat(100) } else { String::new() };
        let accent = if random.chance(10) { "é" } else { "" };
        let name = format!("{own}/{long}{accent}f{place}");
        match random.below(8) {
            0 => {
                let target: &str = random.pick::<&str>(&["/etc/passwd", "f0", "none"]);
                entries.push(build::symlink(&name, target));
            }
            1 => {
                let mut link = Header::new(Kind::HardLink, name);
                link.link_name = format!("usr/bin/tool-{number}").into();
                entries.push((link, Vec::new()));
            }
            2 => {
                let (mut header, content) = build::file(&name, &random.content());
                header.pax.insert(b"SCHILY.xattr.user.note".to_vec(), b"v".to_vec());
                entries.push((header, content));
            }
            _ => {
                let (mut header, content) = build::file(&name, &random.content());
                header.mode = *random.pick(&[0o644, 0o600, 0o755, 0o640]);
                entries.push((header, content));
            }
        }
    }
    for (header, _) in &mut entries {
        header.mtime = 1_700_000_000 + random.below(100_000) as i64;
    }
    entries
}

fn base() -> Vec<(Header, Vec<u8>)> {
    vec![
        build::directory("etc"),
        build::directory("usr"),
        build::directory("lib"),
        build::file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        build::file("etc/group", b"root:x:0:root\n"),
    ]
}

fn package(name: &str, rest: &str, entries: &[(Header, Vec<u8>)], depends: &str) -> Made {
    let data = build::gzip(&build::tar(entries));
    let file = [build::control(name, rest, &data), data].concat();
    let record = format!("P:{name}\nV:1-r0\nA:x86_64\nS:{}\nD:{depends}\n\n", file.len());
    Made { name: name.to_owned(), file, record }
}

impl Repository {
    /// The packages of one architecture under a seed.
    fn new(random: &mut Random) -> Self {
        let mut made = vec![package("base", "origin = base\n", &base(), "")];
        for number in 0..random.below(6) + 1 {
            let name = format!("p{number}");
            let origin = if random.chance(30) { "shared".to_owned() } else { name.clone() };
            let date = 1_750_000_000 + random.below(1000);
            let size = random.below(100_000);
            let rest = format!("origin = {origin}\nbuilddate = {date}\nsize = {size}\n");
            let before = if number > 0 && random.chance(40) { number - 1 } else { number };
            let depends = if before < number { format!("base p{before}") } else { "base".into() };
            made.push(package(&name, &rest, &entries(random, number), &depends));
        }
        let text: String = made.iter().map(|made| made.record.as_str()).collect();
        let (mut header, content) = build::file("APKINDEX", text.as_bytes());
        header.pax.clear();
        let file = build::gzip(&build::tar(&[(header, content)]));
        let index = Index::read_without_signature(&file, &IndexLimits::default()).unwrap();
        Self { made, index }
    }

    /// The package files in the order in which they are installed.
    pub fn resolved(&self, spool: &dyn Spool) -> Vec<Arc<Package>> {
        let world: Vec<String> = self.made.iter().map(|made| made.name.clone()).collect();
        let indexes = [Indexed { pin: "", entries: &self.index.entries }];
        let resolution = Resolver::new(&indexes, Rules::NEWEST).resolve(&world).unwrap();
        assert_eq!(resolution.order.len(), self.made.len());
        let order = resolution.names().into_iter();
        let files = order.map(|name| self.made.iter().find(|made| made.name == name).unwrap());
        files
            .map(|made| {
                let package = Package::read(&made.file[..], spool, &PackageLimits::default());
                Arc::new(package.unwrap())
            })
            .collect()
    }
}

/// A repository for each platform, a configuration for each, and a key.
pub struct Fresh {
    pub platforms: Vec<(&'static str, Repository, ImageConfiguration)>,
    pub keys: Vec<(String, Vec<u8>)>,
}

fn configuration(random: &mut Random, architecture: &str, repository: &Repository) -> Value {
    let packages: Vec<String> =
        repository.made.iter().map(|made| format!("{}=1-r0", made.name)).collect();
    let budget = *random.pick(&[0, 1, 2, 3, 10]);
    let layering = match budget {
        0 => Value::Null,
        budget => json!({"strategy": "origin", "budget": budget}),
    };
    let mut paths = Vec::new();
    if random.chance(50) {
        paths.push(json!({"path": "/srv/data", "type": "directory", "permissions": 0o2755,
            "uid": 1000, "gid": 1000}));
        paths.push(json!({"path": "/srv/empty", "type": "empty-file", "permissions": 0o600}));
    }
    json!({
        "contents": {"repositories": ["https://packages.assay.test/os"], "packages": packages},
        "entrypoint": {"command": "/usr/bin/tool-0"},
        "accounts": {"run-as": "65532", "users": [{"username": "nonroot", "uid": 65532}]},
        "archs": [architecture],
        "environment": {"LANG": *random.pick(&["C", "C.UTF-8"])},
        "annotations": {"org.opencontainers.image.title": "generated"},
        "paths": paths,
        "layering": layering,
    })
}

impl Fresh {
    /// Everything of one seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let key = hex::encode(Digest::of(&seed.to_le_bytes()).raw());
        let platforms = ARCHITECTURES.map(|architecture| {
            let repository = Repository::new(&mut random);
            let json = configuration(&mut random, architecture, &repository).to_string();
            let config = ImageConfiguration::from_attested_json(json.as_bytes()).unwrap();
            (architecture, repository, config)
        });
        Self { platforms: platforms.into(), keys: vec![("own.rsa.pub".into(), key.into_bytes())] }
    }
}
