//! Package databases inside an image: which package a file belongs to, what its checksum should
//! be, and which packages differ.
//!
//! Formats: apk's `installed` (fields `P` name, `V` version, `C` checksum, `F` folder, `R` file,
//! `Z` SHA-1 of the content as `Q1` and Base64) and dpkg's `status` (`Package`, `Version`).
//!
//! Invariant: a database is the image's own word about itself: it explains, it proves nothing.
//! What cannot be read is left out; every loop is bounded by the captured bytes.

use super::cause::{Cause, CauseCode};
use base64::Engine as _;
use std::collections::{BTreeMap, BTreeSet};

/// Where databases lie.
pub(super) const DATABASES: [&str; 3] =
    ["usr/lib/apk/db/installed", "lib/apk/db/installed", "var/lib/dpkg/status"];

/// One package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Package {
    version: String,
    checksum: String,
}

/// What a database says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Owned {
    package: String,
    sha1: Option<[u8; 20]>,
}

/// All databases of one image.
#[derive(Debug, Clone, Default)]
pub(super) struct Database {
    packages: BTreeMap<String, Package>,
    files: BTreeMap<String, Owned>,
    /// True when it lists files, so that a file that it lacks belongs to nobody.
    lists_files: bool,
}

impl Database {
    /// Reads one database into this one.
    pub(super) fn read(&mut self, path: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if path.ends_with("/installed") {
            self.read_apk(&text);
        } else {
            self.read_dpkg(&text);
        }
    }

    fn read_apk(&mut self, text: &str) {
        self.lists_files = true;
        for block in text.split("\n\n") {
            let (mut name, mut package) = (String::new(), Package::default());
            let (mut folder, mut last) = (String::new(), None::<String>);
            for line in block.lines() {
                let Some((key, value)) = line.split_once(':') else { continue };
                match key {
                    "P" => name = value.to_owned(),
                    "V" => package.version = value.to_owned(),
                    "C" => package.checksum = value.to_owned(),
                    "F" => folder = value.to_owned(),
                    "R" => {
                        let slash = if folder.is_empty() { "" } else { "/" };
                        let path = format!("{folder}{slash}{value}");
                        let owned = Owned { package: name.clone(), sha1: None };
                        self.files.insert(path.clone(), owned);
                        last = Some(path);
                    }
                    "Z" => {
                        let owned = last.as_ref().and_then(|path| self.files.get_mut(path));
                        if let Some(owned) = owned {
                            owned.sha1 = sha1(value);
                        }
                    }
                    _ => {}
                }
            }
            if !name.is_empty() {
                self.packages.insert(name, package);
            }
        }
    }

    fn read_dpkg(&mut self, text: &str) {
        for block in text.split("\n\n") {
            let field =
                |key: &str| block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
            if let (Some(name), Some(version)) = (field("Package"), field("Version")) {
                let package = Package { version: version.to_owned(), ..Package::default() };
                self.packages.insert(name.to_owned(), package);
            }
        }
    }
}

/// `Q1` and the Base64 of a SHA-1.
fn sha1(value: &str) -> Option<[u8; 20]> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.strip_prefix("Q1")?).ok()?;
    bytes.try_into().ok()
}

/// The databases of both images, compared.
pub(super) struct Packages<'a> {
    a: &'a Database,
    b: &'a Database,
}

impl<'a> Packages<'a> {
    /// `a` of the published image, `b` of the rebuilt one.
    pub(super) fn new(a: &'a Database, b: &'a Database) -> Self {
        Self { a, b }
    }

    /// Causes for the database's own event: which packages differ.
    pub(super) fn drift(&self) -> Vec<Cause> {
        let names: BTreeSet<&String> =
            self.a.packages.keys().chain(self.b.packages.keys()).collect();
        names.into_iter().filter_map(|name| self.package(name)).take(DRIFT_MAX).collect()
    }

    fn package(&self, name: &str) -> Option<Cause> {
        let cut = super::event::shown;
        match (self.a.packages.get(name), self.b.packages.get(name)) {
            (Some(x), Some(y)) if x == y => None,
            (Some(x), Some(y)) if x.version == y.version => {
                let detail = format!("{name} {}: the same version, another package", x.version);
                Some(Cause::certain(CauseCode::PackageRebuilt, cut(&detail)))
            }
            (Some(x), Some(y)) => {
                let detail = format!("{name}: {}, in the rebuild {}", x.version, y.version);
                Some(Cause::certain(CauseCode::PackageVersion, cut(&detail)))
            }
            (Some(x), None) => {
                let detail = format!("{name} {}: not in the rebuild", x.version);
                Some(Cause::certain(CauseCode::PackageUndeclared, cut(&detail)))
            }
            (None, Some(y)) => {
                let detail = format!("{name} {}: only in the rebuild", y.version);
                Some(Cause::certain(CauseCode::PackageMissing, cut(&detail)))
            }
            (None, None) => None,
        }
    }

    /// The cause that a file's package is for its difference.
    pub(super) fn of_file(&self, path: &str) -> Option<Cause> {
        let owner = self.a.files.get(path).or_else(|| self.b.files.get(path))?;
        self.package(&owner.package)
    }

    /// What the published image's own database says against a published file with the checksum
    /// `found`, where the rebuilt file has the checksum `rebuilt` that it says. (Builders change
    /// some files after installing them, on both sides: those agree with no database.)
    pub(super) fn altered(&self, path: &str, found: [u8; 20], rebuilt: [u8; 20]) -> Option<Cause> {
        let owned = self.a.files.get(path)?;
        let expected = owned.sha1?;
        if expected == found || expected != rebuilt {
            return None;
        }
        let package = &owned.package;
        let (expected, found) = (hex::encode(expected), hex::encode(found));
        let detail = format!(
            "the published image's own database says SHA-1 {expected} (package {package}), \
             the file has {found}"
        );
        Some(Cause::certain(CauseCode::PackageFileAltered, super::event::shown(&detail)))
    }

    /// The cause for a published file that no package of the published image has.
    pub(super) fn unowned(&self, path: &str) -> Option<Cause> {
        if !self.a.lists_files || self.a.files.contains_key(path) {
            return None;
        }
        let detail = "no package of the published image's database has this file";
        Some(Cause::certain(CauseCode::PackageUnowned, detail))
    }
}

/// How many packages are named for one event.
const DRIFT_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apk_database() {
        let text = "C:Q1aaaa\nP:hello\nV:1-r0\nF:usr\nF:usr/bin\nR:hello\na:0:0:755\n\
                    Z:Q12jmj7l5rSw0yVb/vlWAYkK/YBwk=\n\nP:other\nV:2\nF:\nR:root\n\n";
        let mut a = Database::default();
        a.read("usr/lib/apk/db/installed", text.as_bytes());
        let mut b = Database::default();
        let other = text.replace("1-r0", "1-r1").replace("P:other", "P:third");
        b.read("usr/lib/apk/db/installed", other.as_bytes());
        let packages = Packages::new(&a, &b);
        let codes: Vec<CauseCode> = packages.drift().into_iter().map(|c| c.code).collect();
        use CauseCode as C;
        assert_eq!(codes, [C::PackageVersion, C::PackageUndeclared, C::PackageMissing]);
        assert_eq!(packages.of_file("usr/bin/hello").unwrap().code, C::PackageVersion);
        let empty = hex::decode("da39a3ee5e6b4b0d3255bfef95601890afd80709").unwrap();
        let empty: [u8; 20] = empty.try_into().unwrap();
        assert!(packages.altered("usr/bin/hello", empty, empty).is_none());
        assert!(packages.altered("usr/bin/hello", [1; 20], [2; 20]).is_none());
        assert!(packages.altered("usr/bin/hello", [1; 20], empty).is_some());
        assert!(packages.unowned("usr/bin/evil").is_some());
        assert!(packages.unowned("root").is_none());
    }
}
