//! The demonstration with the built binary: a real coordinator, five real workers, one of them
//! dishonest; then gates in fresh processes.

use coordinator::{
    daemon::{
        Core, Daemon,
        research::{self, Asked, Cursor, Table},
    },
    queue::Limits,
    setup::Loaded,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};
use tokio_util::sync::CancellationToken;

fn assay(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_assay")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_fleet_finds_out_and_a_fresh_process_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().to_str().unwrap();
    let (code, out, said) = assay(&["demo", "--keep", keep]);
    assert_eq!(code, Some(0), "{out}\n{said}");
    assert!(out.contains("Alone against them: mallory"), "{out}");
    // The same evidence with one operator's name bound to another key decides otherwise.
    let policy = std::fs::read_to_string(folder.path().join("gate.toml")).unwrap();
    let other = policy.replace("keys/acme.pub", "keys/other.pub");
    let key = attest::key::SigningKey::generate().unwrap();
    std::fs::write(folder.path().join("keys/other.pub"), key.public().to_pem()).unwrap();
    std::fs::write(folder.path().join("other.toml"), other).unwrap();
    let evidence = folder.path().join("evidence");
    let set = std::fs::read(evidence.join("hello-linux-arm64.json")).unwrap();
    let set = attest::evidence_set::EvidenceSet::parse(&set).unwrap();
    let root = set.index_digest().unwrap();
    let image = format!("{}@{root}", set.subject.repository);
    let check = |policy: &str| {
        let policy = folder.path().join(policy);
        let arguments = ["gate", "check", &image, "--offline", "--strict-exit", "--policy"];
        let rest = [policy.to_str().unwrap(), "--evidence", evidence.to_str().unwrap()];
        assay(&[&arguments[..], &rest[..]].concat())
    };
    let (code, out, said) = check("gate.toml");
    assert_eq!(code, Some(0), "{out}\n{said}");
    // acme's observations do not count any more; where it was one of the three, two are too few.
    let counted = out.contains("acme");
    let (code, out, said) = check("other.toml");
    assert!(code == Some(11) || (!counted && code == Some(0)), "{code:?} {out}\n{said}");
    tokio::runtime::Runtime::new().unwrap().block_on(research_tables(folder.path()));
}

/// A whole table, in pages of so many rows.
fn table(core: &Core, table: Table, rows_max: usize) -> Vec<Value> {
    let (mut rows, mut from) = (Vec::new(), Cursor::default());
    loop {
        let asked = Asked { table, repository: None, digests: Default::default(), from, rows_max };
        let page = research::page(core, &asked).unwrap();
        rows.extend(page.rows.iter().map(|row| serde_json::from_slice::<Value>(row).unwrap()));
        if page.done {
            assert_eq!(
                research::page(core, &Asked { from: page.end, ..asked.clone() })
                    .unwrap()
                    .rows
                    .len(),
                0
            );
            return rows;
        }
        assert!(page.end > from, "a page goes on");
        from = page.end;
    }
}

/// What the rows of the demonstration must say.
fn check_rows(all: &BTreeMap<&str, Vec<Value>>) {
    let mut columns = Table::Observations.columns().iter().map(|column| column.name);
    for row in &all["observations"] {
        assert_eq!(row["tag_when_observed"], "latest");
        assert!(row["log_index"].is_null());
        // These images name no source, their epochs follow from their packages, and an output that
        // is the published one has no explanation.
        let unknown =
            ["log_index", "epoch", "source_repository", "source_commit", "explanation_digest"];
        let whole = row["outcome"] == "OUTPUT" && row["operator"] != "mallory";
        let lacks = columns.clone().find(|c| row[c].is_null() && !unknown.contains(c));
        assert!(!whole || lacks.is_none(), "{lacks:?} of {row}");
    }
    assert!(columns.any(|name| name == "verdict_effect"));
    let effects: Vec<&str> =
        all["observations"].iter().filter_map(|row| row["verdict_effect"].as_str()).collect();
    assert_eq!(effects.len(), all["observations"].len());
    assert!(effects.contains(&"counted") && effects.contains(&"dissent"), "{effects:?}");
    // Each interval of a verdict but the last of its job has an end, and begins where another ends.
    let open_ended = |job: &Value| {
        all["verdicts"].iter().filter(|v| v["job"] == *job && v["until"].is_null()).count()
    };
    assert!(all["verdicts"].iter().all(|verdict| open_ended(&verdict["job"]) == 1));
    let jobs: BTreeSet<&str> =
        all["verdicts"].iter().filter_map(|verdict| verdict["job"].as_str()).collect();
    assert!(all["verdicts"].len() > jobs.len(), "one job at least was opened again");
    // Packages are the inputs with that name, and nothing of it is made up.
    let inputs: BTreeSet<_> = all["materials"]
        .iter()
        .filter(|input| input["uri"].as_str().is_some_and(|uri| uri.ends_with(".apk")))
        .map(|input| [&input["obs_id"], &input["n"], &input["uri"], &input["sha256"]])
        .map(|of| of.map(Value::to_string))
        .collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages: BTreeSet<_> = all["packages"]
        .iter()
        .map(|of| {
            let [repository, architecture] =
                ["package_repository", "architecture"].map(|column| text(&of[column]));
            let label = format!("{}-{}.apk", text(&of["name"]), text(&of["version"]));
            let uri = Value::from(format!("{repository}/{architecture}/{label}"));
            [&of["obs_id"], &of["n"], &uri, &of["sha256"]].map(Value::to_string)
        })
        .collect();
    assert_eq!(packages, inputs);
    assert!(all["packages"].iter().any(|of| of["name"] == "hello" && of["version"] == "2.12-r3"));
}

/// What research gets from the demonstration's journal: complete, the same after a new index, the
/// same in any pages, and the same over the command line.
async fn research_tables(folder: &Path) {
    const TABLES: [Table; 6] = [
        Table::Observations,
        Table::Verdicts,
        Table::Transitions,
        Table::Diffs,
        Table::Materials,
        Table::Packages,
    ];
    let home = folder.join("coordinator");
    let open =
        async || Daemon::open(Loaded::read(&home).unwrap(), Limits::default()).await.unwrap();
    let daemon = open().await;
    let core = daemon.core();
    let all: BTreeMap<&str, Vec<Value>> =
        TABLES.iter().map(|t| (t.as_str(), table(&core, *t, 1000))).collect();
    for (name, rows) in &all {
        assert!(!rows.is_empty(), "{name}");
    }
    check_rows(&all);
    for one in TABLES {
        assert_eq!(table(&core, one, 3), all[one.as_str()], "{one:?} in small pages");
    }
    drop(core);
    drop(daemon);
    std::fs::remove_dir_all(home.join("data/index")).unwrap();
    let daemon = open().await;
    let core = daemon.core();
    for one in TABLES {
        assert_eq!(table(&core, one, 1000), all[one.as_str()], "{one:?} with a new index");
    }
    let (address, stop) = (format!("https://{}", daemon.grpc), CancellationToken::new());
    let task = tokio::spawn(daemon.run(stop.clone()));
    let export = async |more: &[&str]| {
        let (ca, key) = (home.join("ca.pem"), home.join("admin.key"));
        let connection = ["--coordinator", address.as_str(), "--ca", ca.to_str().unwrap(), "--key"];
        let mut arguments = vec!["export"];
        arguments.extend(connection);
        arguments.push(key.to_str().unwrap());
        arguments.extend(more);
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let run = move || assay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let (code, out, said) = export(&["--table", "materials"]).await;
    assert_eq!(code, Some(0), "{said}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows, all["materials"]);
    let cursor = said.lines().find_map(|line| line.strip_prefix("cursor: ")).unwrap();
    let (code, out, _) = export(&["--table", "materials", "--cursor", cursor]).await;
    assert_eq!((code, out.as_str()), (Some(0), ""), "nothing came in since");
    let (code, out, _) = export(&["--format", "csv"]).await;
    assert_eq!(code, Some(0));
    let names: Vec<&str> = Table::Observations.columns().iter().map(|c| c.name).collect();
    assert_eq!(out.lines().next().unwrap(), names.join(","));
    assert_eq!(out.lines().count(), 1 + all["observations"].len());
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// The folder may be that of a real fleet: its journal and its keys are not the demonstration's.
#[test]
fn a_folder_that_is_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("coordinator/data/journal");
    std::fs::create_dir_all(&journal).unwrap();
    std::fs::write(journal.join("0.journal"), "precious").unwrap();
    let file = folder.path().join("coordinator/admin.key");
    std::fs::write(&file, "precious").unwrap();
    for keep in [folder.path(), &file] {
        let (code, out, said) = assay(&["demo", "--keep", keep.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains("a new or an empty folder, at "), "{said}");
    }
    for path in [journal.join("0.journal"), file] {
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn exit_codes_of_bad_calls() {
    let (code, _, said) = assay(&["verify", "registry.example/app:1", "--policy", "/nowhere"]);
    assert_eq!(code, Some(16), "{said}");
    let (code, _, said) = assay(&["verify", "not a reference", "--any-signer"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, _, said) = assay(&["coordinator", "check-config", "/nowhere"]);
    assert_eq!(code, Some(2), "{said}");
}
