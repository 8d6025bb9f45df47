//! `assay coordinator reindex|fsck|backup|restore` and two coordinators on one folder, with the
//! built binary.

use attest::Digest;
use coordinator::{
    journal::{Kind, NewRecord, Options},
    queue::{Class, Event, JobSpec, Limits, Tenant},
    store::{self, NoNotary, Parts, SledTables, Store, SystemSurroundings, Tables, nothing},
};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

fn assay(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_assay")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A coordinator's folder with a journal of several segments; gives the number of records.
fn folder(at: &Path) -> u64 {
    let (code, _, said) = assay(&[
        "coordinator",
        "init",
        text(at),
        "--listen",
        "127.0.0.1:0",
        "--listen-http",
        "127.0.0.1:0",
    ]);
    assert_eq!(code, Some(0), "{said}");
    let options =
        Options { segment_bytes: 32 << 10, ahead_bytes: 4 << 10, ..Options::new([3; 16]) };
    let parts = Parts {
        limits: Limits::default(),
        notary: Arc::new(NoNotary),
        around: Arc::new(SystemSurroundings::default()),
        on_fatal: Box::new(|error| panic!("{error}")),
    };
    let store = store::open(&at.join("data"), options, parts, |_, _| {}).unwrap().store;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 0..60u32 {
            let subject = attest::Subject {
                repository: "registry.example/demo/hello".parse().unwrap(),
                digest: Digest::of(&n.to_le_bytes()),
                platform: attest::Platform::linux("amd64"),
            };
            let recipes = vec![Digest::of(b"recipe")];
            let spec = JobSpec::new(subject, recipes, "apko", 0, 2, 60_000).unwrap();
            let event = Event::Announce { spec, tenant: Tenant("ci".into()), class: Class::Push };
            store.act(event, nothing()).await.unwrap();
            let tag = NewRecord::new(Kind::TAG_SEEN, Digest::of(b"tag"), vec![b't'; 900]);
            store.append(vec![tag.clone(), tag]).await.unwrap();
        }
        store.raise_floor().await.unwrap();
        store.end().0
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder.join("data/journal"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "journal"))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

fn fsck(at: &Path) -> (Option<i32>, serde_json::Value) {
    let (code, out, said) = assay(&["coordinator", "fsck", text(at), "--format", "json"]);
    assert!(!out.is_empty(), "{said}");
    (code, json(&out))
}

#[test]
fn fsck_and_reindex() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("c");
    let records = folder(&at);
    let (code, report) = fsck(&at);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(
        (&report["journal"]["records"], &report["journal"]["floor"]),
        (&records.into(), &records.into())
    );
    assert_eq!(
        (&report["index"]["state"], &report["index"]["reached"]),
        (&"good".into(), &records.into())
    );
    assert!(report["journal"]["segments"].as_u64().unwrap() > 2, "{report}");
    // The index is gone, then damaged: only it is in doubt, and it can be made again.
    std::fs::remove_dir_all(at.join("data/index")).unwrap();
    let (code, report) = fsck(&at);
    assert_eq!((code, &report["index"]["state"]), (Some(0), &"missing".into()), "{report}");
    let (code, out, said) = assay(&["coordinator", "reindex", text(&at)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains(&format!("position {records}")), "{out}");
    std::fs::write(at.join("data/index/db"), vec![0xa5; 4096]).unwrap();
    let (code, report) = fsck(&at);
    assert_eq!((code, &report["index"]["state"]), (Some(20), &"doubt".into()), "{report}");
    let (code, out, _) = assay(&["coordinator", "fsck", text(&at)]);
    assert!(code == Some(20) && out.contains("assay coordinator reindex"), "{out}");
    assert_eq!(assay(&["coordinator", "reindex", text(&at)]).0, Some(0));
    assert_eq!(fsck(&at).0, Some(0));
    // One that an earlier version left is told by its layout, not by its first row.
    let tables = SledTables::open(&at.join("data/index")).unwrap();
    let row = tables.get(b"m").unwrap().unwrap();
    let mut reached = json(std::str::from_utf8(&row).unwrap());
    reached["schema"] = 4.into();
    let row = (b"m".to_vec(), Some(reached.to_string().into_bytes()));
    tables.commit(&[row].into()).unwrap();
    drop(tables);
    let (code, report) = fsck(&at);
    assert_eq!(code, Some(20), "{report}");
    assert!(report["index"]["why"].as_str().unwrap().contains("found layout 4"), "{report}");
    assert_eq!(assay(&["coordinator", "reindex", text(&at)]).0, Some(0));
    assert_eq!(fsck(&at).0, Some(0));
    assert!(!at.join("data/index.check").exists() && !at.join("data/index.new").exists());
    // What is no coordinator's folder is not made one.
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for command in ["fsck", "reindex"] {
        let (code, _, said) = assay(&["coordinator", command, text(&empty)]);
        assert!(code == Some(1) && said.contains("found no journal"), "{code:?} {said}");
    }
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn damage_is_refused_with_a_command_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("c");
    let records = folder(&at);
    let all = segments(&at);
    flip(&all[1], 2000);
    let (code, _, refusal) = assay(&["coordinator", "run", text(&at)]);
    assert_eq!(code, Some(1), "{refusal}");
    assert!(refusal.contains("damaged at position"), "{refusal}");
    // The command that the refusal names, word by word.
    let command = refusal.split('`').find(|part| part.contains("--cut-at")).unwrap();
    let words: Vec<&str> =
        command.split(' ').map(|w| if w == "DIR" { text(&at) } else { w }).collect();
    let position: u64 = words[5].parse().unwrap();
    let (code, report) = fsck(&at);
    assert_eq!(code, Some(21), "{report}");
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let mut check = Command::new(env!("CARGO_BIN_EXE_assay"));
    check.args(["coordinator", "fsck", text(&at)]).stdout(unread).stderr(Stdio::null());
    assert_eq!(check.status().unwrap().code(), Some(21), "whoever reads it or not");
    let good = report["journal"]["records"].as_u64().unwrap();
    assert!(good <= position && position < records, "{report}");
    assert!(report["journal"]["readable_behind"].as_u64().unwrap() > 0, "{report}");
    let before: Vec<_> = all.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let no_flag = assay(&["coordinator", "fsck", text(&at), "--cut-at", &position.to_string()]);
    assert_eq!(no_flag.0, Some(2), "{}", no_flag.2);
    let wrong = ["coordinator", "fsck", text(&at), "--accept-loss", "--cut-at", "1"];
    let (code, _, said) = assay(&wrong);
    assert!(code == Some(1) && said.contains(&format!("ends, {good}, found 1")), "{said}");
    let now: Vec<_> = segments(&at).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(now == before, "nothing was changed");
    let (code, out, said) = assay(&[&words[1..], &["--format", "json"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let report = json(&out);
    assert_eq!((&report["position"], &report["promised"]), (&good.into(), &records.into()));
    let kept = PathBuf::from(report["kept_in"].as_str().unwrap());
    assert_eq!(json(&std::fs::read_to_string(kept.join("report.json")).unwrap()), report);
    // Everything that was cut is kept: put together it is what was there.
    let tail = report["kept"][0][0].as_str().unwrap();
    let rest = std::fs::read(kept.join(tail)).unwrap();
    assert_eq!([std::fs::read(&all[1]).unwrap(), rest].concat(), before[1]);
    for (path, bytes) in all.iter().zip(&before).skip(2) {
        assert!(std::fs::read(kept.join(path.file_name().unwrap())).unwrap() == *bytes);
    }
    let (code, report) = fsck(&at);
    assert_eq!((code, &report["journal"]["records"]), (Some(20), &good.into()), "{report}");
    let (code, _, said) =
        assay(&["coordinator", "fsck", text(&at), "--accept-loss", "--cut-at", "1"]);
    assert!(code == Some(1) && said.contains("found a good one"), "{said}");
    let mut running = Running::start(&at);
    running.stop();
    assert_eq!(fsck(&at).0, Some(0));
}

#[test]
fn a_journal_that_lost_its_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("c");
    let records = folder(&at);
    let last = segments(&at).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..96]).unwrap();
    let (code, _, refusal) = assay(&["coordinator", "run", text(&at)]);
    assert!(
        code == Some(1) && refusal.contains(&format!("promised records up to {records}")),
        "{refusal}"
    );
    let command = refusal.split('`').find(|part| part.contains("--cut-at")).unwrap();
    let words: Vec<&str> =
        command.split(' ').map(|w| if w == "DIR" { text(&at) } else { w }).collect();
    let (code, _, said) = assay(&words[1..]);
    assert_eq!(code, Some(0), "{said}");
    Running::start(&at).stop();
}

#[test]
fn a_backup_comes_back_and_a_bad_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (at, copy) = (dir.path().join("c"), dir.path().join("backup"));
    let records = folder(&at);
    let chain = fsck(&at).1["journal"]["chain"].clone();
    let (code, out, said) = assay(&["coordinator", "backup", text(&at), text(&copy)]);
    assert!(code == Some(0) && out.contains(&format!("{records} records")), "{out}{said}");
    let (code, report) = fsck(&copy);
    assert_eq!((code, &report["journal"]["chain"]), (Some(0), &chain), "{report}");
    let again = assay(&["coordinator", "backup", text(&at), text(&copy)]);
    assert!(again.0 == Some(1) && again.2.contains("nothing was overwritten"), "{}", again.2);
    let (code, _, said) = assay(&["coordinator", "restore", text(&copy), text(&at)]);
    assert!(code == Some(1) && said.contains("nothing was overwritten"), "{said}");
    let fresh = dir.path().join("fresh");
    let (code, out, said) = assay(&["coordinator", "restore", text(&copy), text(&fresh)]);
    assert!(code == Some(0) && out.contains(&records.to_string()), "{out}{said}");
    let (code, report) = fsck(&fresh);
    assert_eq!((code, &report["journal"]["chain"]), (Some(0), &chain), "{report}");
    // A copy with one bit turned, and one without its list.
    let other = dir.path().join("other");
    let name = segments(&at)[1].file_name().unwrap().to_owned();
    flip(&copy.join("journal").join(name), 700);
    let (code, _, said) = assay(&["coordinator", "restore", text(&copy), text(&other)]);
    assert!(code == Some(1) && said.contains("in the backup, found"), "{said}");
    assert!(!other.join("data/journal").exists());
    let (code, _, said) = assay(&["coordinator", "fsck", text(&copy)]);
    assert!(code == Some(1) && said.contains("in the backup, found"), "{said}");
    std::fs::remove_file(copy.join("backup.json")).unwrap();
    let (code, _, said) = assay(&["coordinator", "restore", text(&copy), text(&other)]);
    assert!(code == Some(1) && said.contains("not finished"), "{said}");
}

/// A coordinator process.
struct Running {
    child: Child,
    grpc: String,
}

impl Running {
    fn start(at: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(["coordinator", "run", text(at)])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let line = lines.by_ref().map(Result::unwrap).find(|line| {
            said.push_str(line);
            line.starts_with("gRPC on ")
        });
        let line = line.unwrap_or_else(|| panic!("expected a coordinator that starts: {said}"));
        // The pipe is read until the end, so that it never blocks the coordinator.
        std::thread::spawn(move || lines.count());
        let grpc = line["gRPC on ".len()..].split(',').next().unwrap().to_owned();
        Self { child, grpc }
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn who_said_that_it_is_there_ends_in_order_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("c");
    folder(&at);
    for _ in 0..8 {
        Running::start(&at).stop();
    }
}

#[test]
fn two_coordinators_and_a_backup_while_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let (at, copy) = (dir.path().join("c"), dir.path().join("backup"));
    let records = folder(&at);
    let mut running = Running::start(&at);
    let (code, _, said) = assay(&["coordinator", "run", text(&at)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("found another coordinator at work there"), "{said}");
    assert!(said.contains("one directory belongs to one coordinator"), "{said}");
    for command in ["fsck", "reindex"] {
        let (code, _, said) = assay(&["coordinator", command, text(&at)]);
        assert!(code == Some(1) && said.contains("another coordinator"), "{code:?} {said}");
    }
    let keys = dir.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let connection = [
        "--coordinator".to_owned(),
        format!("https://{}", running.grpc),
        "--ca".to_owned(),
        text(&at.join("ca.pem")).to_owned(),
        "--key".to_owned(),
        text(&at.join("admin.key")).to_owned(),
    ];
    let mut ends = Vec::new();
    for n in 0..4 {
        let name = format!("op-{n}");
        let (code, _, said) = assay(&["operator", "keygen", &name, "--dir", text(&keys)]);
        assert_eq!(code, Some(0), "{said}");
        let root = keys.join(format!("{name}.key"));
        let mut arguments = vec!["operator", "add", &name, "--root-key", text(&root)];
        arguments.extend(connection.iter().map(String::as_str));
        let (code, _, said) = assay(&arguments);
        assert_eq!(code, Some(0), "{said}");
        let target = copy.join(n.to_string());
        std::fs::create_dir_all(&copy).unwrap();
        let (code, _, said) = assay(&["coordinator", "backup", text(&at), text(&target)]);
        assert_eq!(code, Some(0), "{said}");
        let (code, report) = fsck(&target);
        assert_eq!(code, Some(0), "{report}");
        ends.push(report["journal"]["records"].as_u64().unwrap());
    }
    // What was acknowledged before the backup began is in it.
    assert!(ends.iter().zip(1..).all(|(end, n)| *end >= records + n), "{ends:?} {records}");
    running.stop();
    assert_eq!(fsck(&at).0, Some(0));
    let fresh = dir.path().join("fresh");
    let (code, _, said) = assay(&["coordinator", "restore", text(&copy.join("3")), text(&fresh)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fsck(&fresh).1["journal"]["records"], ends[3]);
}
