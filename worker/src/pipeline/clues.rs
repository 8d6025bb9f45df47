//! What the published image gives away about choices that its recipe leaves open: the order in
//! which packages were installed, the key files that discovery gave that day, the time of creation.
//!
//! Invariant: a clue only chooses among outputs that the attested recipe allows; the package set
//! and the bytes of every key come from elsewhere (apko-assembly, 3.5 and 20.2). A layer that can't
//! be read strictly gives no clue, never an error: the comparison will say what is wrong with it.

use attest::{Digest, time::Timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use rebuild::{
    apk::tar::{Reader, TarLimits, XATTR_PREFIX},
    compare::ImageBytes,
    go::tar::Kind,
};
use std::{collections::BTreeMap, io::Read};

/// Uncompressed bytes of the last layer that are looked through.
const LAYER_BYTES_MAX: u64 = 16 << 30;
/// Largest installed database: 2,000 packages of 50 files are about 20 MB.
const DATABASE_BYTES_MAX: u64 = 256 << 20;
/// Largest `scripts.tar`: 2,000 packages with three scripts of 4 KB each.
const SCRIPTS_BYTES_MAX: u64 = 64 << 20;
/// Largest key file that is hashed.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// How a key file begins (RFC 7468).
const PEM_BEGIN: &[u8] = b"-----BEGIN PUBLIC KEY-----";
/// Most key files that are looked at.
const KEYS_MAX: usize = 256;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clues {
    /// Package names in the order of the installed database; none where it was not found.
    pub installed: Option<Vec<(String, String)>>,
    /// What the installed database calls the SHA-1 of each package's control member, by its name.
    pub checksums: BTreeMap<String, [u8; 20]>,
    /// The modification time that every member of `scripts.tar` has; none where they differ.
    pub scripts_time: Option<i64>,
    /// Each file in `etc/apk/keys`, by its name.
    pub keys: BTreeMap<String, SeenKey>,
    /// `created` of the image configuration.
    pub created: Option<Timestamp>,
}

/// A file in `etc/apk/keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenKey {
    /// Digest of its bytes.
    pub pin: Digest,
    /// True for what apko writes there: a file in the form of a key, mode 0644, owned by root, and
    /// nothing beside (attributes, links). Whether it is a key that works decides nothing.
    pub plain: bool,
}

impl Clues {
    /// Looks at the configuration and the last layer.
    pub fn read(image: &dyn ImageBytes, layers: usize) -> Self {
        let mut clues = Self { created: created(image.config()), ..Self::default() };
        if let Some(last) = layers.checked_sub(1)
            && let Ok(blob) = image.layer(last)
        {
            // Whatever was seen before an error is still only a clue.
            let _ = clues.look_through(blob);
        }
        clues
    }

    fn look_through(&mut self, blob: Box<dyn Read + '_>) -> Option<()> {
        let stream = GzDecoder::new(blob).take(LAYER_BYTES_MAX);
        let mut tar = Reader::new(stream, TarLimits::default());
        while let Some(header) = tar.next_entry().ok()? {
            if header.kind != Kind::Regular {
                continue;
            }
            match header.name.as_slice() {
                b"usr/lib/apk/db/installed" | b"lib/apk/db/installed" => {
                    let text = tar.content(DATABASE_BYTES_MAX).ok()?;
                    let text = String::from_utf8_lossy(&text);
                    self.installed = Some(package_order(&text));
                    self.checksums = checksums(&text);
                }
                b"usr/lib/apk/db/scripts.tar" | b"lib/apk/db/scripts.tar" => {
                    let scripts = tar.content(SCRIPTS_BYTES_MAX).ok()?;
                    self.scripts_time = one_time(&scripts);
                }
                name => {
                    let file = name.strip_prefix(b"etc/apk/keys/").unwrap_or_default();
                    let file = String::from_utf8(file.to_vec()).ok().filter(|f| !f.is_empty());
                    if let Some(file) = file.filter(|_| self.keys.len() < KEYS_MAX) {
                        let bytes = tar.content(KEY_BYTES_MAX).ok()?;
                        let plain = (header.mode & 0o7777, header.uid, header.gid) == (0o644, 0, 0)
                            && !header.pax.keys().any(|name| name.starts_with(XATTR_PREFIX))
                            && file.ends_with(".pub")
                            && !file.contains('/')
                            && bytes.starts_with(PEM_BEGIN);
                        let pin = Digest::of(&bytes);
                        self.keys.insert(file, SeenKey { pin, plain });
                    }
                }
            }
        }
        Some(())
    }
}

fn created(config: &[u8]) -> Option<Timestamp> {
    let value: serde_json::Value = serde_json::from_slice(config).ok()?;
    value.get("created")?.as_str()?.parse().ok()
}

/// Name and version of each record of an installed database, in its order.
fn package_order(database: &str) -> Vec<(String, String)> {
    let mut order: Vec<(String, String)> = Vec::new();
    for line in database.lines() {
        if let Some(name) = line.strip_prefix("P:") {
            order.push((name.to_owned(), String::new()));
        } else if let (Some(version), Some(last)) = (line.strip_prefix("V:"), order.last_mut())
            && last.1.is_empty()
        {
            version.clone_into(&mut last.1);
        }
    }
    order
}

/// `C:Q1…` of each record.
fn checksums(database: &str) -> BTreeMap<String, [u8; 20]> {
    let records = database.split("\n\n").filter_map(|record| {
        let field = |prefix| record.lines().find_map(|line| line.strip_prefix(prefix));
        let sum = STANDARD.decode(field("C:Q1")?).ok()?;
        Some((field("P:")?.to_owned(), sum.try_into().ok()?))
    });
    records.collect()
}

/// The modification time of all members of a tar, if it is one.
fn one_time(bytes: &[u8]) -> Option<i64> {
    let mut tar = Reader::new(bytes, TarLimits::default());
    let mut time = None;
    while let Some(header) = tar.next_entry().ok()? {
        if time.is_some_and(|time| time != header.mtime) {
            return None;
        }
        time = Some(header.mtime);
    }
    time
}

#[cfg(test)]
mod tests {
    use super::{checksums, package_order};

    #[test]
    fn checksums_by_name() {
        let database = "C:Q1AAECAwQFBgcICQoLDA0ODxAREhM=\nP:a\nV:1\n\nP:b\n\nC:Q1AA==\nP:c\n";
        let sums: Vec<_> = checksums(database).into_iter().collect();
        assert_eq!(sums, [("a".to_owned(), std::array::from_fn(|i| i as u8))]);
    }

    #[test]
    fn names_and_versions_in_order() {
        let database = "P:b\nV:1-r0\nT:x\n\nP:a\nV:2-r0\n\n";
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(package_order(database), [pair("b", "1-r0"), pair("a", "2-r0")]);
        assert!(package_order("V:1\n").is_empty());
    }
}
