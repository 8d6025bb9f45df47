//! Where apk finds its database: the link `lib/apk` (or `lib`) to its place under usr.
//!
//! Invariant: nothing happens before the version that moved the database, nor where `lib` already
//! leads there.

use crate::apko::{
    behaviour::{Behaviour, Capability},
    error::AssembleError,
    fs::{FileTree, FsError, path},
};

const STEP: &str = "link to the package database";

/// Makes the link. `merged_lib` says that a package provides exactly `merged-lib`.
pub fn link_database(
    tree: &mut FileTree,
    behaviour: &Behaviour,
    merged_lib: bool,
) -> Result<(), AssembleError> {
    if !behaviour.has(Capability::UsrDatabase) {
        return Ok(());
    }
    let merged_lib = merged_lib && behaviour.has(Capability::MergedLib);
    link(tree, merged_lib).map_err(AssembleError::in_step(STEP))
}

fn link(tree: &mut FileTree, merged_lib: bool) -> Result<(), FsError> {
    for (name, wanted) in [("/lib", "/usr/lib"), ("/lib/apk", "/usr/lib/apk")] {
        if let Ok(target) = tree.read_link(name.as_bytes())
            && path::clean(&[b"/", target].concat()) == wanted.as_bytes()
        {
            return Ok(());
        }
    }
    if !tree.exists(b"lib") {
        if merged_lib {
            tree.make_symlink(b"usr/lib", b"lib")?;
            return Ok(());
        }
        tree.make_directory(b"lib", 0o755)?;
    }
    if tree.exists(b"lib/apk") {
        remove_empty(tree)?;
    }
    tree.make_symlink(b"../usr/lib/apk", b"lib/apk")?;
    Ok(())
}

/// Removes the directory lib/apk, which may hold nothing but empty directories.
fn remove_empty(tree: &mut FileTree) -> Result<(), FsError> {
    let id = tree.lookup(b"lib/apk")?;
    let in_use = || FsError::Exists("lib/apk (with contents)".into());
    let children = tree.node(id).children().ok_or_else(in_use)?;
    let empty = |child| tree.node(child).children().is_some_and(|names| names.is_empty());
    if !children.values().all(|child| empty(*child)) {
        return Err(in_use());
    }
    let lib = tree.lookup(b"lib")?;
    tree.unlink(lib, b"apk");
    Ok(())
}
