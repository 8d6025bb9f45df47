//! Differences between the entries of two layers, or of two merged trees.
//!
//! Invariant: two layers whose uncompressed bytes differ give at least one event: every byte is in
//! an entry's frame, in its content or in the tail (module `tar`), and each of these is compared.
//! What no field shows is `tar.header_bytes` or `tar.eof_blocks`, never nothing.

use super::{
    cause::{Cause, CauseCode},
    event::{Event, Kind, Scope, lossless, shown, shown_bytes, shown_content, shown_value},
    explain::{Collector, FirstEntry, Wanted},
    paths,
    tar::{EntryKind, Oddity, OddityKind},
    tree::{Entry, LayerTree, MergedTree, is_whiteout},
};
use std::collections::{BTreeMap, BTreeSet};

/// A path on one side.
#[derive(Clone, Copy)]
struct View<'a> {
    entry: &'a Entry,
    /// The entry with the content.
    file: &'a Entry,
    /// The layer of `entry`, and of `file`.
    layer: usize,
    file_layer: usize,
}

type Views<'a> = BTreeMap<&'a [u8], View<'a>>;

/// Adds what differs between two layers at the same place.
pub(super) fn layers(a: &LayerTree, b: &LayerTree, layer: usize, out: &mut Collector) {
    let before = out.total();
    let (view_a, view_b) = (layer_views(a, layer), layer_views(b, layer));
    let first = compare_views(&view_a, &view_b, out);
    order(a, b, layer, out);
    shadowed(a, b, layer, out);
    oddities(&a.oddities.list, &b.oddities.list, Some(layer), out);
    if a.tail != b.tail {
        let text = |tree: &LayerTree| {
            let digest: String = hex::encode(tree.tail.digest);
            Some(format!("{} bytes, sha256:{digest}", tree.tail.size))
        };
        let event = Event::new(Scope::Layer, Kind::TarEofBlocks).in_layer(layer);
        let mut event = event.values(text(a), text(b));
        let detail = "what follows the last entry";
        event.causes.push(Cause::certain(CauseCode::EncodingTarFormat, detail));
        out.push(event);
    }
    if out.total() == before {
        // Duplicates that changed places among other entries: no reader shows it.
        let event = Event::new(Scope::Layer, Kind::TarOrder).in_layer(layer);
        let digest = |tree: &LayerTree| Some(tree.facts.diff_id.to_string());
        out.push(event.values(digest(a), digest(b)));
    }
    out.layer_differs(layer, first);
}

fn layer_views(tree: &LayerTree, layer: usize) -> Views<'_> {
    let entry = |index: &usize| tree.entries.get(*index);
    let view = |entry| View { entry, file: entry, layer, file_layer: layer };
    tree.by_path
        .iter()
        .filter_map(|(path, index)| Some((path.as_slice(), view(entry(index)?))))
        .collect()
}

/// Adds what differs between two trees whose layers do not correspond.
pub(super) fn merged(
    a: (&[LayerTree], &MergedTree<'_>),
    b: (&[LayerTree], &MergedTree<'_>),
    out: &mut Collector,
) {
    compare_views(&merged_views(a.1), &merged_views(b.1), out);
    let mut all: [Vec<Oddity>; 2] = [Vec::new(), Vec::new()];
    for (list, (layers, _)) in all.iter_mut().zip([a, b]) {
        list.extend(layers.iter().flat_map(|l| l.oddities.list.iter().cloned()));
        // Where a layer ends is no matter when layers are split otherwise.
        list.retain(|o| o.kind != OddityKind::NoEndMarker);
    }
    oddities(&all[0], &all[1], None, out);
}

/// Adds what was odd about putting layers together on one side only. Where not all layers are
/// there (`whole` is false), a hard link may lead to one that is not.
pub(super) fn merging(a: &MergedTree<'_>, b: &MergedTree<'_>, whole: bool, out: &mut Collector) {
    let list = |tree: &MergedTree<'_>| -> Vec<Oddity> {
        let shown = |o: &&Oddity| whole || o.kind != OddityKind::DanglingHardLink;
        tree.oddities.list.iter().filter(shown).cloned().collect()
    };
    oddities(&list(a), &list(b), None, out);
}

fn merged_views<'a>(tree: &MergedTree<'a>) -> Views<'a> {
    tree.nodes
        .iter()
        .map(|(path, node)| {
            let (layer, file_layer) = (node.layer, node.file_id.0);
            (*path, View { entry: node.entry, file: node.file, layer, file_layer })
        })
        .collect()
}

/// Compares path by path. Returns the differing entry that comes first in the published tar.
fn compare_views(a: &Views<'_>, b: &Views<'_>, out: &mut Collector) -> Option<FirstEntry> {
    let mut first: Option<FirstEntry> = None;
    let mut consider = |candidate: FirstEntry| {
        let place = |f: &FirstEntry| f.a_offset.or(f.b_offset);
        if first.as_ref().is_none_or(|present| place(&candidate) < place(present)) {
            first = Some(candidate);
        }
    };
    let mut paths: Vec<&[u8]> = a.keys().chain(b.keys()).copied().collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let (x, y) = (a.get(path), b.get(path));
        let kinds = match (x, y) {
            (Some(x), Some(y)) => one_path(path, x, y, out),
            (Some(view), None) => only_one(path, view, Kind::FileAdded, out),
            (None, Some(view)) => only_one(path, view, Kind::FileRemoved, out),
            (None, None) => continue,
        };
        if !kinds.is_empty() {
            consider(FirstEntry {
                path: shown_bytes(path),
                fields: kinds,
                a_offset: x.map(|v| v.entry.tar.offset),
                b_offset: y.map(|v| v.entry.tar.offset),
            });
        }
    }
    first
}

fn at(path: &[u8], layer: usize, kind: Kind) -> Event {
    Event::new(Scope::Entry, kind).at(shown(&lossless(path))).in_layer(layer)
}

fn described(entry: &Entry) -> String {
    let tar = &entry.tar;
    let (mode, uid, gid) = (entry.permissions(), tar.uid, tar.gid);
    let kind = tar.kind.text();
    match tar.kind {
        EntryKind::Regular => {
            let content = shown_content(&entry.content, tar.stored_size);
            format!("{kind} {mode:04o} {uid}:{gid} {content}")
        }
        EntryKind::Symlink | EntryKind::HardLink => {
            format!("{kind} to {}", shown_bytes(&tar.link))
        }
        _ => format!("{kind} {mode:04o} {uid}:{gid}"),
    }
}

/// A path that one side lacks.
fn only_one(path: &[u8], view: &View<'_>, kind: Kind, out: &mut Collector) -> Vec<Kind> {
    let text = lossless(path);
    let published = kind == Kind::FileAdded;
    let whiteout = is_whiteout(path);
    let kind = if whiteout { Kind::LayerWhiteout } else { kind };
    let mut event = at(path, view.layer, kind);
    let value = Some(described(view.entry));
    if published {
        event.a = value
    } else {
        event.b = value
    }
    let place = paths::known(&text);
    let special = view.entry.permissions() & 0o6000 != 0;
    let device = matches!(view.entry.tar.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let what = match &place {
        Some((cause, true)) => Some(cause.detail.clone()),
        _ if whiteout => None,
        _ if special => Some("a program that runs as another user".to_owned()),
        _ if device => Some("a device".to_owned()),
        _ if !view.entry.tar.xattrs.is_empty() => Some("a file with attributes".to_owned()),
        _ if view.file.is_executable() => Some("a program".to_owned()),
        _ if view.entry.tar.kind == EntryKind::Regular && paths::holds_code(&text) => {
            Some("code".to_owned())
        }
        _ => None,
    };
    let whose =
        if published { "only the published image has it" } else { "only the rebuild has it" };
    event.security = what.map(|what| format!("{}: {what}; {whose}", shown(&text)));
    event.causes.extend(place.map(|(cause, _)| cause));
    if special {
        event.causes.push(Cause::certain(CauseCode::SecurityPrivilege, "setuid or setgid"));
    }
    if device {
        event.causes.push(Cause::certain(CauseCode::SecurityDevice, "a device node"));
    }
    out.push(event);
    vec![kind]
}

/// A path that both sides have.
fn one_path(path: &[u8], a: &View<'_>, b: &View<'_>, out: &mut Collector) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut push = |event: Event, wanted: Option<Wanted>| {
        kinds.push(event.kind);
        out.push_with(event, wanted);
    };
    let text = shown(&lossless(path));
    let (x, y) = (&a.entry.tar, &b.entry.tar);
    let event = |kind: Kind, a_text: String, b_text: String| {
        at(path, a.layer, kind).values(Some(a_text), Some(b_text))
    };
    let files = [EntryKind::Regular, EntryKind::HardLink];
    if x.kind != y.kind && files.contains(&x.kind) && files.contains(&y.kind) {
        push(event(Kind::TarHardlinkVsCopy, described(a.entry), described(b.entry)), None);
    } else if x.kind != y.kind {
        let mut event = event(Kind::TarTypeflag, described(a.entry), described(b.entry));
        let words = (x.kind.text(), y.kind.text());
        event.security = Some(format!("{text}: a {}, in the rebuild a {}", words.0, words.1));
        event.causes.push(Cause::certain(CauseCode::SecurityExecutable, "another kind of file"));
        push(event, None);
    } else if x.link != y.link {
        let mut event = event(Kind::TarLinkname, shown_bytes(&x.link), shown_bytes(&y.link));
        let (to_a, to_b) = (shown_bytes(&x.link), shown_bytes(&y.link));
        let leads = matches!(x.kind, EntryKind::Symlink | EntryKind::HardLink);
        event.security =
            leads.then(|| format!("{text}: leads to {to_a}, in the rebuild to {to_b}"));
        event.causes.extend(paths::known(&lossless(path)).map(|(cause, _)| cause));
        push(event, None);
    }
    for event in access(path, a, b) {
        push(event, None);
    }
    for event in descriptions(path, a, b) {
        push(event, None);
    }
    let same_content =
        a.file.content == b.file.content && a.file.tar.stored_size == b.file.tar.stored_size;
    let comparable = a.file.tar.kind == EntryKind::Regular && b.file.tar.kind == EntryKind::Regular;
    if !same_content && comparable {
        let (event, wanted) = content(path, a, b);
        push(event, Some(wanted));
    } else if !same_content && x.kind == y.kind {
        let value = |v: &View<'_>| shown_content(&v.file.content, v.file.tar.stored_size);
        push(event(Kind::TarHeaderBytes, value(a), value(b)), None);
    }
    if kinds.is_empty() && a.entry.frame != b.entry.frame {
        let value = |v: &View<'_>| format!("sha256:{}", hex::encode(v.entry.frame));
        let mut event = event(Kind::TarHeaderBytes, value(a), value(b));
        let detail = "bytes of the header or padding that no field shows";
        event.causes.push(Cause::certain(CauseCode::EncodingTarFormat, detail));
        kinds.push(event.kind);
        out.push(event);
    }
    kinds
}

/// Mode, owner, attributes, devices: what decides who may do what.
fn access(path: &[u8], a: &View<'_>, b: &View<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let text = shown(&lossless(path));
    let (x, y) = (&a.entry.tar, &b.entry.tar);
    let link = x.kind == EntryKind::Symlink && y.kind == EntryKind::Symlink;
    let (mode_a, mode_b) = (a.entry.permissions(), b.entry.permissions());
    if mode_a != mode_b {
        let (mode_a_text, mode_b_text) = (format!("{mode_a:04o}"), format!("{mode_b:04o}"));
        let gained = mode_a & !mode_b & 0o6000 != 0;
        let special = (mode_a ^ mode_b) & 0o6000 != 0;
        let code =
            if special { CauseCode::SecurityPrivilege } else { CauseCode::SecurityPermission };
        let what = if gained { "runs with other rights (setuid, setgid), " } else { "" };
        let mut event = at(path, a.layer, Kind::TarMode);
        event.security = (!link)
            .then(|| format!("{text}: {what}mode {mode_a_text}, in the rebuild {mode_b_text}"));
        event.causes.push(Cause::certain(code, "permission bits"));
        events.push(event.values(Some(mode_a_text), Some(mode_b_text)));
    }
    let (bits_a, bits_b) = (x.mode & !0o7777, y.mode & !0o7777);
    if bits_a != bits_b {
        let event = at(path, a.layer, Kind::TarModeTypeBits);
        let mut event = event.values(Some(format!("{bits_a:o}")), Some(format!("{bits_b:o}")));
        event.causes.push(Cause::certain(CauseCode::EncodingTarFormat, "file type bits"));
        events.push(event);
    }
    let owner = |id_a: i64, id_b: i64, kind: Kind, word: &str| {
        let event = at(path, a.layer, kind);
        let mut event = event.values(Some(id_a.to_string()), Some(id_b.to_string()));
        event.security = Some(format!("{text}: {word} {id_a}, in the rebuild {id_b}"));
        event.causes.push(Cause::certain(CauseCode::SecurityOwner, format!("another {word}")));
        event
    };
    if x.uid != y.uid {
        events.push(owner(x.uid, y.uid, Kind::TarUid, "owner"));
    }
    if x.gid != y.gid {
        events.push(owner(x.gid, y.gid, Kind::TarGid, "group"));
    }
    let names: BTreeSet<&Vec<u8>> = x.xattrs.keys().chain(y.xattrs.keys()).collect();
    for name in names {
        let (value_a, value_b) = (x.xattrs.get(name), y.xattrs.get(name));
        if value_a == value_b {
            continue;
        }
        let shown_name = shown_bytes(name);
        let value = |v: Option<&Vec<u8>>| v.map(|v| format!("{shown_name}={}", shown_value(v)));
        let mut event = at(path, a.layer, Kind::TarXattr).values(value(value_a), value(value_b));
        event.security = Some(format!("{text}: another attribute {shown_name}"));
        let code = if name.as_slice() == b"security.capability" {
            CauseCode::SecurityPrivilege
        } else {
            CauseCode::SecurityPermission
        };
        event.causes.push(Cause::certain(code, "an extended attribute"));
        events.push(event);
    }
    if x.device != y.device {
        let event = at(path, a.layer, Kind::TarDevno);
        let value = |d: (i64, i64)| Some(format!("{}:{}", d.0, d.1));
        let mut event = event.values(value(x.device), value(y.device));
        let is_device = |k| matches!(k, EntryKind::CharDevice | EntryKind::BlockDevice);
        if is_device(x.kind) || is_device(y.kind) {
            event.security = Some(format!("{text}: another device"));
            event.causes.push(Cause::certain(CauseCode::SecurityDevice, "device numbers"));
        }
        events.push(event);
    }
    events
}

/// Names, times, records, dialect: what no program in a container depends on.
fn descriptions(path: &[u8], a: &View<'_>, b: &View<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let (x, y) = (&a.entry.tar, &b.entry.tar);
    let mut differs =
        |kind: Kind, va: Option<String>, vb: Option<String>, code: Option<CauseCode>| {
            if va != vb {
                let mut event = at(path, a.layer, kind).values(va, vb);
                let what = match code {
                    Some(CauseCode::TimeEntry) => "a time of the entry",
                    _ => "how the entry is written",
                };
                event.causes.extend(code.map(|code| Cause::certain(code, what)));
                events.push(event);
            }
        };
    let name = |v: &[u8]| Some(shown_bytes(v));
    differs(Kind::TarUname, name(&x.user), name(&y.user), None);
    differs(Kind::TarGname, name(&x.group), name(&y.group), None);
    let time = |t: (i64, u32)| {
        Some(if t.1 == 0 { t.0.to_string() } else { format!("{}.{:09}", t.0, t.1) })
    };
    let clock = Some(CauseCode::TimeEntry);
    differs(Kind::TarMtime, time(x.mtime), time(y.mtime), clock);
    let keys: BTreeSet<&Vec<u8>> = x.records.keys().chain(y.records.keys()).collect();
    for key in keys {
        let shown_key = shown_bytes(key);
        let value = |v: Option<&Vec<u8>>| v.map(|v| format!("{shown_key}={}", shown_bytes(v)));
        let (kind, code) = match key.as_slice() {
            b"atime" => (Kind::TarAtime, clock),
            b"ctime" => (Kind::TarCtime, clock),
            _ => (Kind::TarPaxRecord, Some(CauseCode::EncodingTarFormat)),
        };
        differs(kind, value(x.records.get(key)), value(y.records.get(key)), code);
    }
    let dialect = Some(CauseCode::EncodingTarFormat);
    let word = |f: &'static str| Some(f.to_owned());
    differs(Kind::TarFormat, word(x.format.as_str()), word(y.format.as_str()), dialect);
    events
}

/// The bytes of a file.
fn content(path: &[u8], a: &View<'_>, b: &View<'_>) -> (Event, Wanted) {
    let whole = lossless(path);
    let (file_a, file_b) = (&a.file.tar, &b.file.tar);
    let mut event = at(path, a.layer, Kind::FileContent).values(
        Some(shown_content(&a.file.content, file_a.stored_size)),
        Some(shown_content(&b.file.content, file_b.stored_size)),
    );
    let place = paths::known(&whole);
    let text = shown(&whole);
    event.security = match &place {
        Some((cause, true)) => Some(format!("{text}: {} differ", cause.detail)),
        _ if a.file.is_executable() || b.file.is_executable() => {
            event.causes.push(Cause::certain(CauseCode::SecurityExecutable, "a program"));
            Some(format!("{text}: another program than the rebuild's"))
        }
        _ if paths::holds_code(&whole) => {
            event.causes.push(Cause::certain(CauseCode::SecurityExecutable, "code"));
            Some(format!("{text}: other code than the rebuild's"))
        }
        _ => None,
    };
    event.causes.extend(place.map(|(cause, _)| cause));
    let wanted = Wanted {
        path: path.to_vec(),
        a: (a.file_layer, file_a.path.clone()),
        b: (b.file_layer, file_b.path.clone()),
    };
    (event, wanted)
}

fn order(a: &LayerTree, b: &LayerTree, layer: usize, out: &mut Collector) {
    let common = |own: &LayerTree, other: &LayerTree| -> Vec<usize> {
        let mut places: Vec<usize> = own
            .by_path
            .iter()
            .filter(|(path, _)| other.by_path.contains_key(*path))
            .map(|(_, place)| *place)
            .collect();
        places.sort_unstable();
        places
    };
    let (in_a, in_b) = (common(a, b), common(b, a));
    fn path(tree: &LayerTree, place: usize) -> &[u8] {
        tree.entries.get(place).map(|e| e.tar.path.as_slice()).unwrap_or_default()
    }
    let differing =
        in_a.iter().zip(&in_b).map(|(x, y)| (path(a, *x), path(b, *y))).find(|(x, y)| x != y);
    if let Some((x, y)) = differing {
        let event = Event::new(Scope::Layer, Kind::TarOrder).in_layer(layer);
        let mut event = event.values(Some(shown_bytes(x)), Some(shown_bytes(y)));
        let detail = "the same paths in another order; the first that differs";
        event.causes.push(Cause::certain(CauseCode::OrderTar, detail));
        out.push(event);
    }
}

/// Entries that later ones of the same path replace: no container shows them.
fn shadowed(a: &LayerTree, b: &LayerTree, layer: usize, out: &mut Collector) {
    let hidden = |tree: &LayerTree| -> Vec<(Vec<u8>, [u8; 32], [u8; 32])> {
        let last: BTreeSet<usize> = tree.by_path.values().copied().collect();
        let entries = tree.entries.iter().enumerate().filter(|(i, _)| !last.contains(i));
        entries.map(|(_, e)| (e.tar.path.clone(), e.frame, e.content)).collect()
    };
    let (hidden_a, hidden_b) = (hidden(a), hidden(b));
    if hidden_a != hidden_b {
        let text = |list: &[(Vec<u8>, _, _)]| Some(format!("{} replaced entries", list.len()));
        let event = Event::new(Scope::Layer, Kind::TarUnusual).in_layer(layer);
        let mut event = event.values(text(&hidden_a), text(&hidden_b));
        let detail = "entries of the same path";
        event.causes.push(Cause::certain(CauseCode::SecurityHiddenBytes, detail));
        out.push(event);
    }
}

/// Findings that only one side has.
fn oddities(a: &[Oddity], b: &[Oddity], layer: Option<usize>, out: &mut Collector) {
    let (set_a, set_b): (BTreeSet<&Oddity>, BTreeSet<&Oddity>) =
        (a.iter().collect(), b.iter().collect());
    for (oddity, published) in set_a
        .difference(&set_b)
        .map(|o| (*o, true))
        .chain(set_b.difference(&set_a).map(|o| (*o, false)))
    {
        let scope = if oddity.path.is_empty() { Scope::Layer } else { Scope::Entry };
        let mut event = Event::new(scope, Kind::TarUnusual);
        if let Some(layer) = layer {
            event = event.in_layer(layer);
        }
        let name = shown_bytes(&oddity.path);
        if !oddity.path.is_empty() {
            event = event.at(name.clone());
        }
        let words = oddity.kind.as_str();
        let blank = if oddity.detail.is_empty() { "" } else { ": " };
        let value = Some(shown(&format!("{words}{blank}{}", oddity.detail)));
        if published {
            event.a = value
        } else {
            event.b = value
        }
        let hidden = matches!(oddity.kind, OddityKind::HiddenBytes | OddityKind::BytesAfterEnd);
        let code =
            if hidden { CauseCode::SecurityHiddenBytes } else { CauseCode::SecurityAmbiguous };
        if published && !oddity.kind.is_harmless() {
            let place = if name.is_empty() { "a layer".to_owned() } else { name };
            event.security = (!hidden).then(|| format!("{place}: {words}"));
            event.causes.push(Cause::certain(code, words));
        }
        out.push(event);
    }
}
