//! Calling the binary in a working folder, and reading what it printed.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Fixtures of the assembler.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rebuild/tests/fixtures").canonicalize().unwrap()
}

/// Published images.
pub fn published() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published");
    path.canonicalize().unwrap()
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Text in JSON.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected text, found {value}"))
}

/// One call.
pub struct Call {
    command: Command,
    /// The output folder.
    pub output: PathBuf,
    /// Keeps it.
    folder: tempfile::TempDir,
}

/// What a call gave.
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub said: String,
    pub output: PathBuf,
    _folder: tempfile::TempDir,
}

impl Call {
    /// `assay assemble CONFIG --output … --format json` in a working folder, without an epoch.
    pub fn new(working: &Path, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("layout");
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
        command.current_dir(working).env_remove("SOURCE_DATE_EPOCH").env_remove("ASSAY_STORE");
        command.args(["assemble", config, "--format", "json", "--output"]).arg(&output);
        Self { command, output, folder }
    }

    /// More arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// SOURCE_DATE_EPOCH.
    pub fn epoch(mut self, value: &str) -> Self {
        self.command.env("SOURCE_DATE_EPOCH", value);
        self
    }

    /// Runs it.
    pub fn run(mut self) -> Answer {
        let output = self.command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer {
            code: output.status.code(),
            out: text(&output.stdout),
            said: text(&output.stderr),
            output: self.output,
            _folder: self.folder,
        }
    }
}

impl Answer {
    /// The JSON of a call that worked.
    pub fn value(&self) -> Result<Value, String> {
        if self.code != Some(0) {
            return Err(format!("exit {:?}: {}", self.code, self.said));
        }
        serde_json::from_str(&self.out).map_err(|error| format!("{error}: {}", self.out))
    }

    /// The index of a call that worked, after looking that the layout is whole.
    pub fn index(&self) -> Result<String, String> {
        let value = self.value()?;
        let whole = whole(&self.output, &value);
        whole.map(|()| text(&value["index"]).to_owned())
    }
}

/// Every blob that the answer names is in the layout with the right bytes, and nothing else is.
fn whole(layout: &Path, value: &Value) -> Result<(), String> {
    let blobs = layout.join("blobs/sha256");
    let mut named = vec![text(&value["index"]).to_owned()];
    for platform in value["platforms"].as_array().unwrap() {
        named.extend([&platform["manifest"], &platform["config"]].map(|d| text(d).to_owned()));
        let layers = platform["layers"].as_array().unwrap().iter();
        named.extend(layers.map(|layer| text(&layer["blob"]).to_owned()));
    }
    named.sort();
    named.dedup();
    for digest in &named {
        let bytes = fs::read(blobs.join(digest.trim_start_matches("sha256:")))
            .map_err(|error| format!("{digest}: {error}"))?;
        let found = attest::Digest::of(&bytes).to_string();
        if found != *digest {
            return Err(format!("expected {digest}, found {found}"));
        }
    }
    let there = fs::read_dir(&blobs).unwrap().count();
    let beside = fs::read_dir(layout.parent().unwrap()).unwrap().count();
    if there != named.len() || beside != 1 {
        return Err(format!("{there} blobs for {} names, {beside} folders", named.len()));
    }
    Ok(())
}

/// A working folder in which the relative names of the versions' configurations lead somewhere.
pub fn versions_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let versions = fixtures().join("apko-versions");
    let link = |name: &str, to: PathBuf| {
        std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    };
    link("os", published().join("packages/os"));
    link("extras", published().join("packages/extras"));
    link("repo2", fixtures().join("apko/repo2"));
    link("keys", versions.join("keys"));
    for name in ["x", "r", "o", "z"] {
        link(name, versions.join("repos").join(name));
    }
    for file in fs::read_dir(versions.join("configs")).unwrap() {
        let file = file.unwrap();
        link(file.file_name().to_str().unwrap(), file.path());
    }
    folder
}

/// Runs all jobs on a few threads; what failed.
pub fn all<T: Sync>(jobs: &[T], run: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(job) =
                    jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    if let Err(failure) = run(job) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}
