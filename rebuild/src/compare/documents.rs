//! Differences between two manifests and two configurations, field by field, named by JSON
//! pointer (RFC 6901). Fields: OCI image-spec v1.1, manifest and config.
//!
//! Invariant: two documents whose bytes differ give at least one event here, or differ in what is
//! explained elsewhere (digest and size of the configuration and of layers, diffIDs). Unknown
//! fields count like known ones.

use super::{
    cause::{Cause, CauseCode},
    event::{Event, Kind, Scope, shown},
    explain::Collector,
    manifest::{Config, Manifest, split_layer_type},
    paths,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// One path of two documents.
struct Difference<'a> {
    pointer: String,
    segments: Vec<&'a str>,
    a: Option<&'a Value>,
    b: Option<&'a Value>,
}

/// Finds where two values differ. `descend` says into which places to look further.
fn walk<'a>(
    at: &mut Vec<&'a str>,
    a: Option<&'a Value>,
    b: Option<&'a Value>,
    descend: &dyn Fn(&[&str]) -> bool,
    found: &mut Vec<Difference<'a>>,
) {
    if a == b {
        return;
    }
    if let (Some(Value::Object(x)), Some(Value::Object(y))) = (a, b)
        && descend(at)
    {
        let mut keys: Vec<&String> = x.keys().chain(y.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            at.push(key);
            walk(at, x.get(key), y.get(key), descend, found);
            at.pop();
        }
        return;
    }
    let escaped = |s: &&str| s.replace('~', "~0").replace('/', "~1");
    let pointer: String = at.iter().map(|s| format!("/{}", escaped(s))).collect();
    found.push(Difference { pointer, segments: at.clone(), a, b });
}

fn text(value: Option<&Value>) -> Option<String> {
    value.map(|value| match value {
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    })
}

impl Difference<'_> {
    fn event(&self, scope: Scope, kind: Kind, prefix: &str) -> Event {
        Event::new(scope, kind)
            .at(shown(&format!("{prefix}{}", self.pointer)))
            .values(text(self.a), text(self.b))
    }
}

/// Adds what differs between two manifests.
pub(super) fn manifests(a: (&[u8], &Manifest), b: (&[u8], &Manifest), out: &mut Collector) {
    let (a_bytes, a) = a;
    let (b_bytes, b) = b;
    let mut found = Vec::new();
    let top = |at: &[&str]| at.is_empty() || at == ["annotations"] || at.first() == Some(&"config");
    walk(&mut Vec::new(), Some(&a.value), Some(&b.value), &top, &mut found);
    for difference in &found {
        let kind = match difference.segments.as_slice() {
            // Explained where layers and configurations are compared.
            ["layers"] | ["config", "digest" | "size"] => continue,
            ["mediaType"] | ["config", "mediaType"] => Kind::ManifestMediaType,
            ["annotations", ..] | ["config", "annotations", ..] => Kind::ManifestAnnotation,
            ["subject"] => Kind::ManifestSubject,
            ["artifactType"] => Kind::ManifestArtifactType,
            ["config", ..] => Kind::ManifestDescriptor,
            _ => Kind::ManifestUnknownField,
        };
        out.push(with_cause(difference.event(Scope::Manifest, kind, "")));
    }
    layer_descriptors(a, b, out);
    if a.value == b.value && a_bytes != b_bytes {
        let size = |bytes: &[u8]| Some(format!("{} bytes", bytes.len()));
        let event = Event::new(Scope::Manifest, Kind::ManifestJsonBytes);
        out.push(with_cause(event.values(size(a_bytes), size(b_bytes))));
    }
}

fn layer_descriptors(a: &Manifest, b: &Manifest, out: &mut Collector) {
    let items = |m: &'_ Manifest| -> Vec<Value> {
        m.value.get("layers").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (items_a, items_b) = (items(a), items(b));
    if items_a.len() != items_b.len() {
        let count = |n: usize| Some(n.to_string());
        let event = Event::new(Scope::Manifest, Kind::ManifestLayerCount).at("/layers");
        out.push(event.values(count(items_a.len()), count(items_b.len())));
    }
    for (index, (x, y)) in items_a.iter().zip(&items_b).enumerate() {
        let prefix = format!("/layers/{index}");
        let mut found = Vec::new();
        let top = |at: &[&str]| at.is_empty() || at == ["annotations"];
        walk(&mut Vec::new(), Some(x), Some(y), &top, &mut found);
        for difference in &found {
            let kind = match difference.segments.as_slice() {
                ["digest" | "size"] => continue,
                // The compression is explained where layers are compared.
                ["mediaType"] if layer_base(difference.a) == layer_base(difference.b) => continue,
                ["mediaType"] => Kind::ManifestMediaType,
                ["annotations", ..] => Kind::ManifestAnnotation,
                _ => Kind::ManifestDescriptor,
            };
            let event = difference.event(Scope::Manifest, kind, &prefix).in_layer(index);
            out.push(with_cause(event));
        }
    }
}

/// A layer's media type without its compression, or the whole of what is none.
fn layer_base(value: Option<&Value>) -> Option<&str> {
    let text = value.and_then(Value::as_str)?;
    Some(split_layer_type(text).map_or(text, |(base, _)| base))
}

/// Adds what differs between two configurations.
pub(super) fn configs(a: (&[u8], &Config), b: (&[u8], &Config), out: &mut Collector) {
    let (a_bytes, a) = a;
    let (b_bytes, b) = b;
    let mut found = Vec::new();
    let descend = |at: &[&str]| {
        matches!(at, [] | ["config"] | ["config", "Labels"] | ["rootfs"] | ["rootfs", _, ..])
    };
    walk(&mut Vec::new(), Some(&a.value), Some(&b.value), &descend, &mut found);
    for difference in &found {
        let kind = match difference.segments.as_slice() {
            ["rootfs", "diff_ids"] => {
                let (x, y) = (a.diff_ids.len(), b.diff_ids.len());
                if x != y {
                    let event = difference.event(Scope::Config, Kind::ConfigDiffIdCount, "");
                    out.push(event.values(Some(x.to_string()), Some(y.to_string())));
                }
                continue;
            }
            ["history"] => {
                history(difference, out);
                continue;
            }
            ["config", "Env"] => {
                environment(difference, out);
                continue;
            }
            segments => config_kind(segments),
        };
        let event = difference.event(Scope::Config, kind, "");
        out.push(with_cause(secured(event, difference.segments.last().copied())));
    }
    if a.value == b.value && a_bytes != b_bytes {
        let size = |bytes: &[u8]| Some(format!("{} bytes", bytes.len()));
        let event = Event::new(Scope::Config, Kind::ConfigJsonBytes);
        out.push(with_cause(event.values(size(a_bytes), size(b_bytes))));
    }
}

fn config_kind(segments: &[&str]) -> Kind {
    match segments {
        ["created"] => Kind::ConfigCreated,
        ["author"] => Kind::ConfigAuthor,
        ["architecture" | "os" | "variant"] => Kind::ConfigArch,
        ["os.version" | "os.features"] => Kind::ConfigOsVersion,
        ["config", "Cmd" | "Shell" | "Healthcheck" | "OnBuild" | "ArgsEscaped"] => Kind::ConfigCmd,
        ["config", "Entrypoint"] => Kind::ConfigEntrypoint,
        ["config", "User"] => Kind::ConfigUser,
        ["config", "WorkingDir"] => Kind::ConfigWorkdir,
        ["config", "Labels", ..] => Kind::ConfigLabels,
        ["config", "ExposedPorts"] => Kind::ConfigExposed,
        ["config", "Volumes"] => Kind::ConfigVolumes,
        ["config", "StopSignal" | "StopTimeout"] => Kind::ConfigStopSignal,
        _ => Kind::ConfigUnknownField,
    }
}

/// What a changed field lets a container do, in words.
fn secured(mut event: Event, field: Option<&str>) -> Event {
    let side = |value: &Option<String>| match value {
        Some(value) if !value.is_empty() => format!("{value:?}"),
        _ => "nothing".to_owned(),
    };
    let (a, b) = (side(&event.a), side(&event.b));
    event.security = match event.kind {
        Kind::ConfigUser => {
            let root = event.a.as_deref().is_none_or(is_root);
            let root = if root { ": runs as root" } else { "" };
            Some(format!("config.User: {a}, rebuild {b}{root}"))
        }
        Kind::ConfigCmd | Kind::ConfigEntrypoint => {
            Some(format!("config.{}: {a}, rebuild {b}", field.unwrap_or("Cmd")))
        }
        _ => None,
    };
    event
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), Some("" | "0" | "root"))
}

fn history(difference: &Difference<'_>, out: &mut Collector) {
    let items = |v: Option<&Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
    let (a, b) = (items(difference.a), items(difference.b));
    if a.len() != b.len() || a == b {
        let event = difference.event(Scope::Config, Kind::HistoryCount, "");
        out.push(event.values(Some(a.len().to_string()), Some(b.len().to_string())));
    }
    for (index, (x, y)) in a.iter().zip(&b).enumerate() {
        let mut found = Vec::new();
        walk(&mut Vec::new(), Some(x), Some(y), &|at: &[&str]| at.is_empty(), &mut found);
        for difference in &found {
            let kind = match difference.segments.as_slice() {
                ["created"] => Kind::HistoryCreated,
                ["created_by" | "author"] => Kind::HistoryCreatedBy,
                ["comment"] => Kind::HistoryComment,
                ["empty_layer"] => Kind::HistoryEmptyLayer,
                _ => Kind::HistoryUnknownField,
            };
            let prefix = format!("/history/{index}");
            out.push(with_cause(difference.event(Scope::Config, kind, &prefix)));
        }
    }
}

/// Variables by name: an added one does not make all that follow it differ.
fn environment(difference: &Difference<'_>, out: &mut Collector) {
    let lists = |value: Option<&Value>| -> Option<Vec<String>> {
        let items = match value {
            None | Some(Value::Null) => return Some(Vec::new()),
            Some(value) => value.as_array()?,
        };
        items.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let (Some(a), Some(b)) = (lists(difference.a), lists(difference.b)) else {
        out.push(difference.event(Scope::Config, Kind::ConfigEnv, ""));
        return;
    };
    let by_name = |list: &[String]| {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for item in list {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            map.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        map
    };
    let (map_a, map_b) = (by_name(&a), by_name(&b));
    if map_a == map_b {
        // Null or absent against an empty list, or another order of the same variables.
        let event = difference.event(Scope::Config, Kind::ConfigEnv, "");
        let detail = "the same variables in another order or form";
        out.push(Event { causes: vec![Cause::certain(CauseCode::OrderJson, detail)], ..event });
        return;
    }
    let mut names: Vec<&String> = map_a.keys().chain(map_b.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (x, y) = (map_a.get(name), map_b.get(name));
        if x == y {
            continue;
        }
        let value = |v: Option<&Vec<String>>| v.map(|v| shown(&format!("{name}={}", v.join(", "))));
        let (loader, what) = paths::variable(name);
        let (a, b) = (value(x), value(y));
        let quoted = |v: &Option<String>| v.as_ref().map_or("not set".into(), |v| format!("{v:?}"));
        let security = format!("config.Env: {}, rebuild {}", quoted(&a), quoted(&b));
        let code = if loader { CauseCode::SecurityLoader } else { CauseCode::SecurityEnvironment };
        let mut event = Event::new(Scope::Config, Kind::ConfigEnv)
            .at(shown(&format!("/config/Env/{name}")))
            .values(a, b);
        event.security = Some(security);
        event.causes.push(Cause::certain(code, what));
        out.push(event);
    }
}

/// The causes that follow from the kind of a document's field.
fn with_cause(mut event: Event) -> Event {
    let is_time = |v: &Option<String>| v.as_deref().is_some_and(looks_like_time);
    let cause = match event.kind {
        Kind::ConfigCreated | Kind::HistoryCreated => {
            Cause::certain(CauseCode::TimeConfig, "a time of creation")
        }
        Kind::ManifestAnnotation | Kind::ConfigLabels if is_time(&event.a) && is_time(&event.b) => {
            Cause::certain(CauseCode::TimeConfig, "a time in an annotation or label")
        }
        Kind::ManifestAnnotation
        | Kind::ConfigLabels
        | Kind::ConfigAuthor
        | Kind::HistoryCreatedBy
        | Kind::HistoryComment => Cause::certain(CauseCode::DescriptionText, "a description"),
        Kind::ManifestUnknownField | Kind::ConfigUnknownField | Kind::HistoryUnknownField => {
            let detail = "the specification has no such field";
            Cause::certain(CauseCode::DescriptionUnknownField, detail)
        }
        Kind::ManifestJsonBytes | Kind::ConfigJsonBytes => {
            Cause::certain(CauseCode::EncodingJson, "white space, order of keys or escapes")
        }
        Kind::ConfigUser => Cause::certain(CauseCode::SecurityUser, "who the container runs as"),
        Kind::ConfigCmd | Kind::ConfigEntrypoint => {
            Cause::certain(CauseCode::SecurityCommand, "what the container runs")
        }
        _ => return event,
    };
    event.causes.push(cause);
    event
}

/// `2026-01-01T…`.
fn looks_like_time(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut digits = |n: usize| (0..n).all(|_| bytes.next().is_some_and(|b| b.is_ascii_digit()));
    digits(4)
        && text.as_bytes().get(4) == Some(&b'-')
        && text.as_bytes().get(7) == Some(&b'-')
        && matches!(text.as_bytes().get(10), Some(b'T' | b' '))
}
