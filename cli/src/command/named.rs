//! The files and folders that a call names, looked at before anything is done with them.
//!
//! Invariant: what is not there, or cannot be made where it was asked for, is a mistake of the call:
//! exit 2, with its name. A disk that is full or broken is none. Nothing is judged here.

use crate::exit::Failure;
use gate::EvidenceSource;
use oci::ImageReference;
use std::{
    fs::DirBuilder,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Permissions of a folder that others may read, before the process's mask.
pub const SHARED: u32 = 0o777;
/// Permissions of a folder of one's own.
pub const PRIVATE: u32 = 0o700;

/// An image's name; of one in a layout, the folder must be there.
pub fn image(text: &str) -> Result<ImageReference, Failure> {
    let reference: ImageReference =
        text.parse().map_err(|e: oci::reference::ReferenceError| Failure::Usage(e.to_string()))?;
    if let ImageReference::Layout { dir, .. } = &reference {
        folder("the image's layout", dir)?;
    }
    Ok(reference)
}

/// A folder that must be there.
pub fn folder(what: &str, path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let found = if path.exists() { "something else" } else { "nothing" };
    Err(Failure::Usage(format!(
        "expected {what} to be a folder, found {found} at {}: name another one",
        path.display()
    )))
}

/// A folder that is made unless it is there, before anything is done that would have to go there.
pub fn folder_to_make(what: &str, path: Option<&Path>, mode: u32) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| {
        let text = format!(
            "expected {what} to name a folder, or one that can be made, at {}: {error}; name \
             another one",
            path.display()
        );
        if is_of_the_call(&error) {
            Failure::Usage(text)
        } else {
            Failure::Operation(anyhow::anyhow!(text))
        }
    })
}

/// Files and folders of evidence must be there. Otherwise a gate would say that there is none.
pub fn evidence(sources: &[EvidenceSource]) -> Result<(), Failure> {
    for source in sources {
        let EvidenceSource::Path(path) = source else { continue };
        if !path.exists() {
            return Err(Failure::Usage(format!(
                "expected --evidence to name a file, a folder, https://HOST of a coordinator or \
                 oci://HOST/REPO, found nothing at {}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// True for what another name in the call would mend.
pub fn is_of_the_call(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_a_mistake_of_the_call_and_a_full_disk_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        for path in [&file, &file.join("below"), Path::new("/proc/none")] {
            let error = folder_to_make("--keep", Some(path), SHARED).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.code(), 2, "{text}");
            assert!(text.contains("--keep") && text.contains(path.to_str().unwrap()), "{text}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        let made = folder.path().join("a/b");
        folder_to_make("--keep", Some(&made), SHARED).unwrap();
        folder_to_make("--keep", Some(&made), SHARED).unwrap();
        assert!(made.is_dir());
        assert!(!is_of_the_call(&ErrorKind::StorageFull.into()));
    }
}
