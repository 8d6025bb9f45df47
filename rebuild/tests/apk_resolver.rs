//! The resolver against the installation orders of real images: those of every recorded version
//! of apko, and those in the installed databases of the published images.
//!
//! Invariant: configurations, indexes and orders are read from the fixtures; only the list of
//! what does not agree, and why, is written here.

mod apk_support;

use apk_support::{fixtures, installed_order, ring};
use proptest::prelude::*;
use rebuild::apk::{
    index::{Index, IndexEntry, IndexLimits, Words},
    resolver::{Ambiguity, Architectures, Repository, Resolution, ResolveError, Resolver, Rules},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// `major.minor.patch` as numbers; a build number behind `+` does not matter here.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(['.', '+']).map(|part| part.parse().unwrap());
    [parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap()]
}

fn rules(version: [u32; 3]) -> Rules {
    Rules {
        selected_packages_settle: version >= [0, 25, 0],
        shared_objects_below_releases: version >= [0, 26, 0],
        same_origin_same_version: version >= [1, 2, 11],
        versions_before_priority: version >= [1, 2, 17],
        unversioned_provides_stay: version >= [1, 2, 20],
    }
}

fn apk_architecture(oci: &str) -> &str {
    match oci {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

fn repository_folder(name: &str) -> PathBuf {
    let own = fixtures::own();
    match name {
        "./os" | "./extras" => fixtures::published().join(name),
        "./repo2" => own.join("apko/repo2"),
        _ => own.join("apko-versions/repos").join(name),
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// What a configuration asks for.
struct Wishes {
    repositories: Vec<String>,
    world: Vec<String>,
    services: bool,
}

impl Wishes {
    fn of(configuration: &Value) -> Self {
        let contents = &configuration["contents"];
        let mut repositories = strings(&contents["repositories"]);
        repositories.extend(strings(&contents["build_repositories"]));
        repositories.sort();
        repositories.dedup();
        let services = configuration["entrypoint"]["type"] == "service-bundle";
        let mut world = strings(&contents["packages"]);
        world.extend(services.then(|| "s6".to_owned()));
        Self { repositories, world, services }
    }
}

type Indexes = BTreeMap<String, Vec<Index>>;

fn indexes(folders: &[PathBuf], architectures: &[String]) -> Indexes {
    let keys = ring();
    let read = |folder: &PathBuf, architecture: &str| {
        let file = std::fs::read(folder.join(architecture).join("APKINDEX.tar.gz")).ok()?;
        let limits = IndexLimits::default();
        let signed = Index::read(&file, &keys, &limits).map(|(index, _)| index);
        Some(signed.or_else(|_| Index::read_without_signature(&file, &limits)).unwrap())
    };
    let of = |architecture: &String| {
        let list = folders.iter().filter_map(|folder| read(folder, architecture)).collect();
        (architecture.clone(), list)
    };
    architectures.iter().map(of).collect()
}

fn architectures(indexes: &Indexes, rules: Rules) -> Architectures<'_> {
    let mut repositories = BTreeMap::new();
    for (name, indexes) in indexes {
        let list = indexes.iter().map(|index| Repository { pin: "", entries: &index.entries });
        repositories.insert(name.clone(), list.collect::<Vec<_>>());
    }
    Architectures::new(&repositories, rules)
}

/// Locks the wishes and resolves the lock, as apko does from 0.22.2 on; before, the wishes.
fn resolve<'a>(
    wishes: &Wishes,
    resolvers: &Architectures<'a>,
    architecture: &str,
    locks: bool,
) -> Result<Resolution<'a>, ResolveError> {
    let mut world = wishes.world.clone();
    if locks {
        world = resolvers.lock(&world)?.architectures[architecture].locked();
        world.extend(wishes.services.then(|| "s6".to_owned()));
    }
    resolvers.get(architecture).unwrap().resolve(&world)
}

/// True when `found` differs from `expected` at most by what chance decides.
fn differs_by_chance(found: &Resolution<'_>, expected: &[String]) -> bool {
    let free = |name: &&str| {
        found.ambiguous.iter().any(|ambiguity| match ambiguity {
            Ambiguity::InstallIf { packages, .. } => packages.iter().any(|p| p == name),
            _ => false,
        })
    };
    let fixed = |names: Vec<&str>| -> Vec<String> {
        names.into_iter().filter(|name| !free(name)).map(str::to_owned).collect()
    };
    let mut sets = [found.names(), expected.iter().map(String::as_str).collect()];
    let same_rest = fixed(sets[0].clone()) == fixed(sets[1].clone());
    sets[0].sort_unstable();
    sets[1].sort_unstable();
    same_rest && sets[0] == sets[1]
}

fn yaml(path: &std::path::Path) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn orders_of_all_recorded_versions() {
    let folder = fixtures::own().join("apko-versions");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let (mut equal, mut locked) = (0, 0);
    let (mut by_chance, mut ambiguous, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (key, case) in expected.as_object().unwrap() {
        if key.ends_with("@lock") {
            // The lock file is the order.
            locked += 1;
            continue;
        }
        let version = numbers(case["apko"].as_str().unwrap());
        let configuration = yaml(&folder.join(case["config"].as_str().unwrap()));
        let mut wishes = Wishes::of(&configuration);
        if version < [0, 25, 2] {
            // Before, repositories were read in the order of the configuration.
            wishes.repositories = strings(&configuration["contents"]["repositories"]);
        }
        let folders: Vec<_> = wishes.repositories.iter().map(|r| repository_folder(r)).collect();
        let platforms = case["platforms"].as_object().unwrap();
        let names = |platform: &String| {
            apk_architecture(platform.strip_prefix("linux/").unwrap()).to_owned()
        };
        let indexes = indexes(&folders, &platforms.keys().map(names).collect::<Vec<_>>());
        let resolvers = architectures(&indexes, rules(version));
        for (platform, wanted) in platforms {
            let found =
                resolve(&wishes, &resolvers, &names(platform), version >= [0, 22, 2]).unwrap();
            let wanted = strings(&wanted["order"]);
            if !found.ambiguous.is_empty() {
                ambiguous.push(format!("{key} {platform}: {:?}", found.ambiguous));
            }
            if found.names() == wanted {
                equal += 1;
            } else if differs_by_chance(&found, &wanted) {
                by_chance.push(key.as_str());
            } else {
                others.push(format!("{key} {platform}: {:?}, expected {wanted:?}", found.names()));
            }
        }
    }
    // Before 0.14.0 the order was another one (`order_014`), which is not done.
    others.retain(|other| !other.starts_with("0.13.0/"));
    assert_eq!(others, Vec::<String>::new());
    assert_eq!((equal, by_chance.len(), locked), (90, 0, 2));
    assert_eq!(ambiguous, Vec::<String>::new());
}

#[test]
fn orders_of_the_published_images() {
    let folder = fixtures::published().join("..");
    let cases: Value =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let mut equal = 0;
    let (mut by_chance, mut ambiguous, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (name, case) in cases.as_object().unwrap() {
        let path = folder.join("configs").join(format!("{name}.yaml"));
        if !path.is_file() {
            continue;
        }
        let builder = case["builder"].as_str().unwrap_or("apko 1.2.39");
        let version = numbers(builder.strip_prefix("apko ").unwrap());
        let wishes = Wishes::of(&yaml(&path));
        let local = |address: &String| {
            fixtures::published()
                .join(address.strip_prefix("https://packages.assay.test/").unwrap())
        };
        let folders: Vec<_> = wishes.repositories.iter().map(local).collect();
        let platforms = case["platforms"].as_object().unwrap();
        let names = |platform: &String| {
            apk_architecture(platform.strip_prefix("linux/").unwrap()).to_owned()
        };
        let indexes = indexes(&folders, &platforms.keys().map(names).collect::<Vec<_>>());
        let resolvers = architectures(&indexes, rules(version));
        for (platform, wanted) in platforms {
            let layers = wanted["layers"].as_array().unwrap();
            let top = layers.last().unwrap()["blob"].as_str().unwrap();
            let wanted = installed_order(&folder, top);
            let found = match resolve(&wishes, &resolvers, &names(platform), true) {
                Ok(found) => found,
                Err(error) => {
                    // The package was withdrawn from the index.
                    assert!(name == "withdrawn" && matches!(error, ResolveError::RuledOut { .. }));
                    continue;
                }
            };
            if !found.ambiguous.is_empty() {
                ambiguous.push(format!("{name} {platform}: {:?}", found.ambiguous));
            }
            if found.names() == wanted {
                equal += 1;
            } else if differs_by_chance(&found, &wanted) {
                by_chance.push(name.as_str());
            } else {
                others.push(format!("{name} {platform}: {:?}, expected {wanted:?}", found.names()));
            }
        }
    }
    assert_eq!(others, Vec::<String>::new());
    assert_eq!((equal, by_chance.len()), (18, 0));
    assert_eq!(ambiguous, Vec::<String>::new());
}

#[test]
fn chance_is_reported_where_apko_leaves_something_to_it() {
    for (config, chance) in [("v1-rich", true), ("v2-layered", true), ("v3-alpine", false)] {
        let own = fixtures::own().join("apko");
        let configuration = yaml(&own.join(format!("{config}.yaml")));
        let wishes = Wishes::of(&configuration);
        let folders: Vec<_> = wishes.repositories.iter().map(|r| own.join(r)).collect();
        let indexes = indexes(&folders, &["x86_64".to_owned()]);
        let resolvers = architectures(&indexes, Rules::NEWEST);
        let found = resolve(&wishes, &resolvers, "x86_64", true).unwrap();
        let expected = chance.then(|| Ambiguity::InstallIf {
            world: "app-extra=3.0-r7".to_owned(),
            packages: vec!["auto".to_owned(), "app-extra".to_owned()],
            chained: false,
        });
        assert_eq!(found.ambiguous, Vec::from_iter(expected), "{config}");
    }
}

/// A record with dependencies, provides and `install_if` conditions.
fn entry(name: &str, depends: &[&str], provides: &[&str], install_if: &[&str]) -> IndexEntry {
    let owned = |list: &[&str]| Words::new(&list.join(" "));
    IndexEntry {
        name: name.to_owned(),
        version: "1-r0".to_owned(),
        depends: owned(depends),
        provides: owned(provides),
        install_if: owned(install_if),
        ..IndexEntry::default()
    }
}

fn order(entries: &[IndexEntry], world: &[&str]) -> Result<Vec<String>, ResolveError> {
    let resolver = Resolver::new(&[Repository { pin: "", entries }], Rules::NEWEST);
    let world: Vec<_> = world.iter().map(|wish| (*wish).to_owned()).collect();
    let found = resolver.resolve(&world)?;
    assert_eq!(resolver.resolve(&world).unwrap(), found, "the same question, the same answer");
    Ok(found.names().into_iter().map(str::to_owned).collect())
}

#[test]
fn worlds_without_an_answer() {
    let entries = [
        entry("a", &["b>=2"], &[], &[]),
        entry("b", &[], &[], &[]),
        entry("c", &["!b", "b"], &[], &[]),
        entry("d", &["nothing"], &[], &[]),
        entry("e", &["b=x"], &[], &[]),
        entry("f", &[], &["f=2"], &[]),
        entry("g", &["f", "b"], &["f=1"], &[]),
    ];
    use ResolveError as E;
    assert!(matches!(order(&entries, &["a"]), Err(E::RuledOut { .. })));
    assert!(matches!(order(&entries, &["c"]), Err(E::RuledOut { .. })));
    assert!(matches!(order(&entries, &["d"]), Err(E::NothingProvides { .. })));
    assert!(matches!(order(&entries, &["e"]), Err(E::Version { .. })));
    assert!(matches!(order(&entries, &["x"]), Err(E::NothingProvides { .. })));
    assert!(matches!(order(&entries, &["!b"]), Err(E::NothingProvides { .. })));
    assert!(matches!(order(&entries, &["b", "b=2"]), Err(E::RuledOut { .. })));
    assert!(matches!(order(&entries, &["b@edge=1"]), Err(E::NothingProvides { .. })));
    assert_eq!(order(&entries, &[]).unwrap(), Vec::<String>::new());
    assert_eq!(order(&entries, &["b", "b", "b=1-r0"]).unwrap(), ["b"]);
}

#[test]
fn cycles_and_chains_end() {
    let ring: Vec<_> = (0..300)
        .map(|n| entry(&format!("p{n}"), &[&format!("p{}", (n + 1) % 300)], &[], &[]))
        .collect();
    assert_eq!(order(&ring, &["p0"]).unwrap().len(), 300);
    assert_eq!(order(&[entry("a", &["a"], &[], &[])], &["a"]).unwrap(), ["a"]);
    let chain: Vec<_> =
        (0..5000).map(|n| entry(&format!("p{n}"), &[&format!("p{}", n + 1)], &[], &[])).collect();
    assert!(order(&chain, &["p0"]).unwrap_err().is_limit());
    // Unversioned names are not remembered: each level doubles the work.
    let doubling: Vec<_> = (0..60)
        .map(|n| {
            let next = [format!("x{}", n + 1), format!("y{}", n + 1)];
            let depends: &[&str] = if n < 59 { &[&next[0], &next[1]] } else { &[] };
            entry(&format!("p{n}"), depends, &[&format!("x{n}"), &format!("y{n}")], &[])
        })
        .collect();
    assert!(order(&doubling, &["p0"]).unwrap_err().is_limit());
}

#[test]
fn conditions_that_trigger_each_other() {
    let entries = [
        entry("a", &["b", "c"], &[], &[]),
        entry("b", &[], &[], &[]),
        entry("c", &[], &[], &[]),
        entry("one", &[], &[], &["b", "c=1-r0"]),
        entry("two", &[], &[], &["one"]),
        entry("never", &[], &[], &["b", "c=2"]),
    ];
    let resolver = Resolver::new(&[Repository { pin: "", entries: &entries }], Rules::NEWEST);
    let found = resolver.resolve(&["a".to_owned()]).unwrap();
    assert_eq!(found.names(), ["b", "c", "one", "a"]);
    let packages = vec!["one".to_owned(), "two".to_owned()];
    let chance = Ambiguity::InstallIf { world: "a".to_owned(), packages, chained: true };
    assert_eq!(found.ambiguous, [chance]);
}

#[test]
fn pins_and_several_architectures() {
    let main = [entry("a", &["b"], &[], &[]), entry("b", &[], &[], &[])];
    let mut edge = [entry("a", &["b"], &[], &[]), entry("b", &[], &[], &[])];
    edge.iter_mut().for_each(|entry| entry.version = "2-r0".to_owned());
    let both =
        vec![Repository { pin: "", entries: &main }, Repository { pin: "edge", entries: &edge }];
    let resolver = Resolver::new(&both, Rules::NEWEST);
    let locked = |wish: &str| resolver.resolve(&[wish.to_owned()]).unwrap().locked();
    assert_eq!(locked("a"), ["a=1-r0", "b=1-r0"]);
    assert_eq!(locked("a@edge"), ["a=2-r0@edge", "b=1-r0"], "others are only allowed from there");
    assert!(resolver.resolve(&["a=2-r0".to_owned()]).is_err());

    let one = vec![Repository { pin: "", entries: &main }, Repository { pin: "", entries: &edge }];
    let other = vec![Repository { pin: "", entries: &main }];
    let platforms = BTreeMap::from([("x".to_owned(), one), ("y".to_owned(), other)]);
    let lock = Architectures::new(&platforms, Rules::NEWEST).lock(&["a".to_owned()]).unwrap();
    assert_eq!(lock.architectures["x"].locked(), ["a=1-r0", "b=1-r0"], "2-r0 is not on y");
    assert_eq!(lock.shared(), ["a=1-r0", "b=1-r0"]);
}

fn any_entries() -> impl Strategy<Value = Vec<IndexEntry>> {
    let word = || proptest::sample::select(vec!["a", "b", "c", "d", "e", "f", "so:x", "v"]);
    let version = || proptest::sample::select(vec!["", "=1-r0", ">1", "<2", "~1", "=", "=x", "@p"]);
    let wish = (word(), version(), any::<bool>())
        .prop_map(|(word, version, not)| format!("{}{word}{version}", if not { "" } else { "!" }));
    let wish = prop_oneof![wish, (word(), version()).prop_map(|(word, v)| format!("{word}{v}"))];
    let list = |max: usize| proptest::collection::vec(wish.clone(), 0..max);
    let number = proptest::sample::select(vec!["1-r0", "1-r1", "2-r0", "bad"]);
    let one = (word(), number, list(4), list(3), list(2), 0u64..3).prop_map(
        |(name, version, depends, provides, install_if, provider_priority)| IndexEntry {
            name: name.to_owned(),
            version: version.to_owned(),
            origin: name[..1].to_owned(),
            depends: Words::new(&depends.join(" ")),
            provides: Words::new(&provides.join(" ")),
            install_if: Words::new(&install_if.join(" ")),
            provider_priority,
            ..IndexEntry::default()
        },
    );
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn any_index_and_world_end(
        entries in any_entries(),
        world in proptest::collection::vec("[abcdefv](=1-r0|>1|@p)?", 0..4),
    ) {
        let resolver = Resolver::new(&[Repository { pin: "", entries: &entries }], Rules::NEWEST);
        if let Ok(found) = resolver.resolve(&world) {
            let mut names = found.names();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), found.order.len(), "no name twice");
            prop_assert_eq!(resolver.resolve(&world).unwrap(), found);
        }
    }
}
