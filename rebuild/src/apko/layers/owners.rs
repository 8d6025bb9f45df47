//! Names of owners for tar headers: from the image's own `etc/passwd` and `etc/group`.
//!
//! Invariant: names in package headers are never used; an id without a name stays without one, and
//! so does every id if the file cannot be read as such a file.

use crate::apko::{error::AssembleError, fs::FileTree, install::Packages, post::passwd};
use std::collections::HashMap;

const STEP: &str = "names of owners";

/// Who has which id.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    /// Reads the image's files; of several names for one id the last one counts.
    pub fn read(tree: &mut FileTree, packages: Packages<'_>) -> Result<Self, AssembleError> {
        let mut owners = Self::default();
        if let Some((_, file)) = packages.read_path(tree, "etc/passwd", STEP)? {
            let users = passwd::users(&file).unwrap_or_default();
            owners.users = users.into_iter().map(|user| (user.uid, user.name)).collect();
        }
        if let Some((_, file)) = packages.read_path(tree, "etc/group", STEP)? {
            let groups = passwd::groups(&file).unwrap_or_default();
            owners.groups = groups.into_iter().map(|group| (group.gid, group.name)).collect();
        }
        Ok(owners)
    }

    /// The name of a user, or nothing.
    pub fn user(&self, uid: u32) -> &[u8] {
        self.users.get(&uid).map_or(&[], Vec::as_slice)
    }

    /// The name of a group, or nothing.
    pub fn group(&self, gid: u32) -> &[u8] {
        self.groups.get(&gid).map_or(&[], Vec::as_slice)
    }
}
