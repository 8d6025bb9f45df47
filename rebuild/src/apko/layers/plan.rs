//! The plan: for each layer the list of its entries.
//!
//! Every entry is written where its package's layer is, everything else to the top layer, which
//! comes last. Directories are repeated in a package's layer before the first entry in them, dated
//! by that entry. Invariant: the plan holds paths, positions and times, no content.

use super::{Group, Owners};
use crate::{
    apko::{
        behaviour::{Behaviour, Capability, LayerDatabase},
        fs::{Backing, FileTree, Kind as NodeKind, NodeId, walk::Step},
        install::Packages,
    },
    go::tar::{Header, Kind},
};
use std::sync::Arc;

/// What is written for an entry.
#[derive(Debug, Clone)]
pub enum Form {
    /// The node as it is.
    Node,
    /// A link to the name that this package entry links to.
    HardLink(Backing),
    /// These bytes instead of the node's: a layer's part of the installed database.
    Database(Arc<Vec<u8>>),
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path, without slashes around it.
    pub path: Vec<u8>,
    /// The node it shows.
    pub node: NodeId,
    /// Its mtime in this layer.
    pub mtime: i64,
    /// What is written.
    pub form: Form,
}

/// One layer.
#[derive(Debug, Clone, Default)]
pub struct LayerPlan {
    /// Entries in the order of the stream.
    pub entries: Vec<Entry>,
    /// Packages of this layer by position; none for the top layer and for a single one.
    pub packages: Group,
}

/// What planning and writing need to know.
pub struct Planner<'a> {
    /// The finished tree.
    pub tree: &'a FileTree,
    /// What was installed.
    pub packages: Packages<'a>,
    /// Names for ids.
    pub owners: Owners,
    /// How this version of apko does it.
    pub behaviour: Behaviour,
    /// The mtime of every entry for versions without mtimes of their own.
    pub epoch_option: i64,
}

/// Directories from the root to where the walk is.
type Stack = Vec<Entry>;

impl<'a> Planner<'a> {
    /// One layer with everything.
    pub fn single(&self) -> Vec<LayerPlan> {
        let entries = self.tree.walk().map(|step| self.entry(step)).collect();
        vec![LayerPlan { entries, packages: Group::new() }]
    }

    /// A layer for each group and the top layer. `records` are those of the installed database.
    pub fn layered(&self, groups: Vec<Group>, records: &[Vec<u8>]) -> Vec<LayerPlan> {
        let top = groups.len();
        let mut layer_of = vec![top; self.packages.0.len()];
        for (layer, group) in groups.iter().enumerate() {
            for position in group {
                layer_of[*position] = layer;
            }
        }
        let databases: Vec<Arc<Vec<u8>>> = groups
            .iter()
            .map(|group| {
                let records: Vec<&[u8]> = group.iter().map(|p| records[*p].as_slice()).collect();
                Arc::new(records.concat())
            })
            .collect();
        let mut plans: Vec<LayerPlan> = groups
            .into_iter()
            .chain([Group::new()])
            .map(|packages| LayerPlan { entries: Vec::new(), packages })
            .collect();
        let mut stacks: Vec<Stack> = vec![Stack::new(); plans.len()];
        let mut main = Stack::new();
        let database = format!("{}/installed", self.behaviour.database_folder()).into_bytes();
        let mut database_entry = None;
        for step in self.tree.walk() {
            let entry = self.entry(step);
            let node = self.tree.node(entry.node);
            if node.is_directory() {
                descend(&mut main, &entry);
            }
            let layer = node.backing.map_or(top, |backing| layer_of[backing.package as usize]);
            plans[layer].entries.extend(align(&mut stacks[layer], &main, &entry));
            if entry.path != database {
                plans[layer].entries.push(entry);
                continue;
            }
            plans[layer].entries.push(entry.clone());
            if self.behaviour.layer_database() == LayerDatabase::InWalk {
                for (layer, bytes) in databases.iter().enumerate() {
                    plans[layer].entries.extend(align(&mut stacks[layer], &main, &entry));
                    let form = Form::Database(Arc::clone(bytes));
                    plans[layer].entries.push(Entry { form, ..entry.clone() });
                }
            }
            database_entry = Some(entry);
        }
        if self.behaviour.layer_database() == LayerDatabase::AtEnd
            && let Some(entry) = database_entry
        {
            for (plan, bytes) in plans.iter_mut().zip(&databases) {
                let form = Form::Database(Arc::clone(bytes));
                plan.entries.push(Entry { form, ..entry.clone() });
            }
        }
        plans
    }

    fn entry(&self, step: Step) -> Entry {
        let node = self.tree.node(step.id);
        let own_times = self.behaviour.has(Capability::PackageTimes);
        let link = node.hard_links.get(&step.path);
        let form = match link {
            Some(backing) if node.is_regular() && self.behaviour.has(Capability::HardLinks) => {
                Form::HardLink(*backing)
            }
            _ => Form::Node,
        };
        let mtime = if own_times { node.mtime } else { self.epoch_option };
        Entry { path: step.path, node: step.id, mtime, form }
    }

    /// The header of an entry.
    pub fn header(&self, entry: &Entry) -> Header {
        let node = self.tree.node(entry.node);
        let kind = match (&entry.form, &node.kind) {
            (Form::HardLink(_), _) => Kind::HardLink,
            (_, NodeKind::Directory(_)) => Kind::Directory,
            (_, NodeKind::Regular) => Kind::Regular,
            (_, NodeKind::Symlink(_)) => Kind::Symlink,
            (_, NodeKind::CharDevice { .. }) => Kind::CharDevice,
        };
        let mut header = Header::new(kind, entry.path.clone());
        header.mode = node.mode;
        header.uid = node.uid.into();
        header.gid = node.gid.into();
        header.mtime = entry.mtime;
        header.user_name = self.owners.user(node.uid).to_vec();
        header.group_name = self.owners.group(node.gid).to_vec();
        match (&entry.form, &node.kind) {
            (Form::HardLink(backing), _) => {
                header.link_name = self.packages.header(*backing).link_name.clone();
            }
            (Form::Database(bytes), _) => header.size = bytes.len() as u64,
            (Form::Node, NodeKind::Symlink(target)) => header.link_name = target.clone(),
            (Form::Node, NodeKind::CharDevice { major, minor }) => {
                (header.device_major, header.device_minor) = (*major, *minor);
            }
            (Form::Node, NodeKind::Regular) => header.size = self.packages.size(node),
            (Form::Node, NodeKind::Directory(_)) => {}
        }
        if matches!(header.kind, Kind::Regular | Kind::Directory) {
            let record = |name: &[u8]| [crate::apk::tar::XATTR_PREFIX, name].concat();
            let attributes = node.xattrs.iter();
            header.pax = attributes.map(|(name, value)| (record(name), value.clone())).collect();
        }
        header
    }

    /// About how many bytes a layer has.
    pub fn size(&self, plan: &LayerPlan) -> u64 {
        let sizes = plan.entries.iter().map(|entry| match &entry.form {
            Form::HardLink(_) => 0,
            Form::Database(bytes) => bytes.len() as u64,
            Form::Node => self.packages.size(self.tree.node(entry.node)),
        });
        sizes.fold(0, |sum: u64, size| sum.saturating_add(size).saturating_add(512))
    }
}

/// Puts a directory on the stack, after those above it.
fn descend(main: &mut Stack, entry: &Entry) {
    let slash = entry.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let parent = entry.path.get(..slash).unwrap_or_default();
    while main.last().is_some_and(|last| last.path != parent) {
        main.pop();
    }
    main.push(entry.clone());
}

/// Brings a layer's stack to where the walk is; gives the directories to write before `entry`,
/// dated by it. The stack of the walk changes at directories only, so a file that follows the
/// subtree of a directory beside it still finds that subtree there, and takes it along.
fn align(stack: &mut Stack, main: &Stack, entry: &Entry) -> Vec<Entry> {
    let same = stack.iter().zip(main).take_while(|(a, b)| a.node == b.node).count();
    stack.truncate(same);
    let added = main.get(same..).unwrap_or_default();
    stack.extend_from_slice(added);
    added
        .iter()
        .filter(|directory| directory.node != entry.node)
        .map(|directory| Entry { mtime: entry.mtime, ..directory.clone() })
        .collect()
}
