//! `etc/passwd` and `etc/group` as apko reads and writes them (passwd(5), group(5)).
//!
//! Invariant: a line with another number of fields, or an id that is no decimal number of 32 bits,
//! is an error that names the line; nothing is repaired.

/// Bytes of one line: the buffer of Go's line scanner, which gives up beyond it.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Lines of one file; images have some dozen, large systems some thousand.
const LINES_MAX: usize = 100_000;

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}")]
pub struct LineError {
    /// Which line, from 1.
    pub line: usize,
    /// What it should be.
    pub expected: &'static str,
}

/// A line of `etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLine {
    /// Name.
    pub name: Vec<u8>,
    /// `x`, usually.
    pub password: Vec<u8>,
    /// Number.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Comment.
    pub info: Vec<u8>,
    /// Home directory.
    pub home: Vec<u8>,
    /// Shell.
    pub shell: Vec<u8>,
}

/// A line of `etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLine {
    /// Name.
    pub name: Vec<u8>,
    /// `x`, usually.
    pub password: Vec<u8>,
    /// Number.
    pub gid: u32,
    /// Names of members, joined by commas.
    pub members: Vec<u8>,
}

/// The lines of a file without their ends and surrounding white space.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = Result<&[u8], LineError>> {
    let body = file.strip_suffix(b"\n").unwrap_or(file);
    let present = !file.is_empty();
    body.split(|b| *b == b'\n').filter(move |_| present).enumerate().map(|(index, line)| {
        if line.len() >= LINE_BYTES_MAX {
            return Err(LineError { line: index + 1, expected: "fewer than 65536 bytes" });
        }
        if index >= LINES_MAX {
            return Err(LineError { line: index + 1, expected: "at most 100000 lines" });
        }
        Ok(trim(line))
    })
}

/// Go's `strings.TrimSpace`.
fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |text| text.trim().as_bytes())
}

fn id(field: &[u8]) -> Option<u32> {
    let digits = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(field).ok()?.parse().ok())?
}

/// All lines of `etc/passwd`.
pub fn users(file: &[u8]) -> Result<Vec<UserLine>, LineError> {
    lines(file)
        .enumerate()
        .map(|(index, line)| {
            let error = |expected| LineError { line: index + 1, expected };
            let fields: Vec<&[u8]> = line?.split(|b| *b == b':').collect();
            let [name, password, uid, gid, info, home, shell] = fields.as_slice() else {
                return Err(error("seven fields between colons"));
            };
            Ok(UserLine {
                name: name.to_vec(),
                password: password.to_vec(),
                uid: id(uid).ok_or_else(|| error("a decimal user number"))?,
                gid: id(gid).ok_or_else(|| error("a decimal group number"))?,
                info: info.to_vec(),
                home: home.to_vec(),
                shell: shell.to_vec(),
            })
        })
        .collect()
}

/// All lines of `etc/group`.
pub fn groups(file: &[u8]) -> Result<Vec<GroupLine>, LineError> {
    lines(file)
        .enumerate()
        .map(|(index, line)| {
            let error = |expected| LineError { line: index + 1, expected };
            let fields: Vec<&[u8]> = line?.split(|b| *b == b':').collect();
            let [name, password, gid, members] = fields.as_slice() else {
                return Err(error("four fields between colons"));
            };
            Ok(GroupLine {
                name: name.to_vec(),
                password: password.to_vec(),
                gid: id(gid).ok_or_else(|| error("a decimal group number"))?,
                members: members.to_vec(),
            })
        })
        .collect()
}

/// Fields joined by colons, and a newline.
pub(super) fn write_line(out: &mut Vec<u8>, fields: &[&[u8]]) {
    out.extend_from_slice(&fields.join(&b':'));
    out.push(b'\n');
}

impl UserLine {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let ids: [&[u8]; 2] = [uid.as_bytes(), gid.as_bytes()];
        let [uid, gid] = ids;
        let fields =
            [&self.name, &self.password, uid, gid, &self.info, &self.home, self.shell.as_slice()];
        write_line(out, &fields);
    }
}

impl GroupLine {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let gid = self.gid.to_string();
        write_line(out, &[&self.name, &self.password, gid.as_bytes(), &self.members]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_and_written() {
        let file = b"root:x:0:0:root:/root:/bin/ash\r\n  a:x:007:8::/:\n";
        let users = users(file).unwrap();
        let mut out = Vec::new();
        users.iter().for_each(|user| user.write(&mut out));
        assert_eq!(out, b"root:x:0:0:root:/root:/bin/ash\na:x:7:8::/:\n");
        let mut out = Vec::new();
        let groups = groups(b"wheel:x:10:root,adm").unwrap();
        groups.iter().for_each(|group| group.write(&mut out));
        assert_eq!(out, b"wheel:x:10:root,adm\n");
    }

    #[test]
    fn wrong_lines_are_errors() {
        for bad in ["\n", "a:b", "a:x:-1:0:::", "a:x:1:4294967296:::", "a:x:+1:0:::"] {
            assert!(users(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(users(b"").unwrap().is_empty());
        assert_eq!(groups(b"a:x:1:\n\n").unwrap_err().line, 2);
        assert!(users(&vec![b'a'; LINE_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(file in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = users(&file);
            let _ = groups(&file);
        }
    }
}
