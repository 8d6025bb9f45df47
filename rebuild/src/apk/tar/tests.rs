//! Archives made of raw blocks: what is read, and what is refused.

use super::{
    header::{BLOCK, Block},
    *,
};
use crate::go::tar::Writer;
use proptest::prelude::*;

/// A header block with a right checksum.
fn block(kind: u8, name: &[u8], size: u64, change: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

fn plain(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    [block(kind, name, content.len() as u64, |_| ()), padded(content)].concat()
}

fn gnu(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let magic = |block: &mut Block| block[257..265].copy_from_slice(b"ustar  \0");
    [block(kind, name, content.len() as u64, magic), padded(content)].concat()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().next_multiple_of(BLOCK), 0);
    padded
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let mut length = key.len() + value.len() + 3;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length = key.len() + value.len() + 3 + length.to_string().len();
        }
        body.extend(format!("{length} {key}={value}\n").bytes());
    }
    plain(b'x', b"PaxHeaders.0/x", &body)
}

fn read(parts: &[Vec<u8>]) -> Result<Vec<(Header, Vec<u8>)>, TarProblem> {
    read_with(parts, TarLimits::default())
}

fn read_with(parts: &[Vec<u8>], limits: TarLimits) -> Result<Vec<(Header, Vec<u8>)>, TarProblem> {
    let archive = parts.concat();
    let mut tar = Reader::new(&archive[..], limits);
    let mut entries = Vec::new();
    while let Some(header) = tar.next_entry().map_err(|error| error.problem)? {
        let content = tar.content(u64::MAX)?;
        entries.push((header, content));
    }
    assert!(tar.next_entry().unwrap().is_none(), "the end stays the end");
    Ok(entries)
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

#[test]
fn formats_and_their_fields() {
    let long = "d/".repeat(80) + "file";
    let entries = read(&[
        plain(b'0', b"a", b"content"),
        block(b'0', b"name", 0, |block| block[345..351].copy_from_slice(b"prefix")),
        pax(&[("path", &long), ("mtime", "1.4"), ("SCHILY.xattr.user.x", "1"), ("uid", "7")]),
        plain(b'0', b"cut", b""),
        gnu(b'L', b"././@LongLink", &[long.as_bytes(), b"\0"].concat()),
        gnu(b'0', b"cut", b"x"),
        block(b'2', b"link", 0, |block| block[157..163].copy_from_slice(b"target")),
        plain(0, b"old", b""),
        end(),
        vec![0; 8 * BLOCK],
    ])
    .unwrap();
    let names: Vec<_> = entries.iter().map(|(header, _)| &header.name[..]).collect();
    let long = long.as_bytes();
    assert_eq!(names, [&b"a"[..], b"prefix/name", long, long, b"link", b"old"]);
    assert_eq!(entries[0].1, b"content");
    assert_eq!((entries[2].0.mtime, entries[2].0.uid), (1, 7));
    assert_eq!(entries[2].0.pax.len(), 1, "fields are not kept as records");
    let formats: Vec<_> = entries.iter().map(|(header, _)| header.format).collect();
    use Format::*;
    assert_eq!(formats, [Auto, Auto, Pax, Gnu, Auto, Auto]);
    assert_eq!(entries[4].0.link_name, b"target");
    assert_eq!(entries[5].0.kind, Kind::Regular);
}

#[test]
fn the_end_may_be_missing_whole_or_long() {
    for zeros in [0, BLOCK, 2 * BLOCK, 20 * BLOCK] {
        assert_eq!(read(&[plain(b'0', b"a", b"1"), vec![0; zeros]]).unwrap().len(), 1);
    }
    assert_eq!(read(&[]).unwrap(), []);
    for cut in [1, 511, 513] {
        let cut_off = read(&[vec![0; cut]]);
        assert!(matches!(cut_off, Err(TarProblem::Truncated)), "{cut}");
    }
}

/// A name, the parts of an archive, and what its problem has to be.
type Case = (&'static str, Vec<Vec<u8>>, fn(&TarProblem) -> bool);

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    use TarProblem as P;
    let file = || plain(b'0', b"a", b"1");
    let cases: Vec<Case> = vec![
        (
            "checksum",
            vec![{
                let mut bad = file();
                bad[0] ^= 1;
                bad
            }],
            |p| matches!(p, P::HeaderChecksum { .. }),
        ),
        ("magic", vec![block(b'0', b"a", 0, |b| b[257..265].fill(0))], |p| matches!(p, P::Magic)),
        ("star", vec![block(b'0', b"a", 0, |b| b[508..512].copy_from_slice(b"tar\0"))], |p| {
            matches!(p, P::Magic)
        }),
        ("behind the end", vec![file(), end(), file()], |p| matches!(p, P::BehindTheEnd)),
        ("one zero block", vec![file(), vec![0; BLOCK], file()], |p| matches!(p, P::BehindTheEnd)),
        (
            "padding",
            vec![{
                let mut bad = file();
                bad[BLOCK + 1] = 1;
                bad
            }],
            |p| matches!(p, P::Padding),
        ),
        ("base 256", vec![block(b'0', b"a", 0, |b| b[124] = 0x80)], |p| {
            matches!(p, P::Number { .. })
        }),
        (
            "negative",
            vec![block(b'0', b"a", 0, |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[124..136].fill(0xff);
            })],
            |p| matches!(p, P::Number { .. }),
        ),
        ("NUL in a name", vec![block(b'0', b"a\0b", 0, |_| ())], |p| {
            matches!(p, P::BytesBehindNul { .. })
        }),
        ("global header", vec![plain(b'g', b"x", b"12 comment=\n"), file()], |p| {
            matches!(p, P::GlobalHeader)
        }),
        ("sparse", vec![gnu(b'S', b"a", b"")], |p| matches!(p, P::Sparse)),
        ("sparse by PAX", vec![pax(&[("GNU.sparse.size", "9")]), file()], |p| {
            matches!(p, P::Sparse)
        }),
        ("type", vec![plain(b'7', b"a", b"")], |p| matches!(p, P::UnknownType { .. })),
        ("two extensions", vec![pax(&[("path", "b")]), pax(&[("path", "c")]), file()], |p| {
            matches!(p, P::DuplicateExtension)
        }),
        ("two records", vec![pax(&[("path", "b"), ("path", "b")]), file()], |p| {
            matches!(p, P::DuplicateRecord { .. })
        }),
        ("two sizes", vec![pax(&[("size", "2")]), file()], |p| {
            matches!(p, P::ContradictingSize { .. })
        }),
        (
            "size of a small file",
            vec![pax(&[("size", "512")]), block(b'0', b"a", 0, |_| ())],
            |p| matches!(p, P::ContradictingSize { .. }),
        ),
        ("nothing extended", vec![pax(&[("path", "b")]), end()], |p| {
            matches!(p, P::DanglingExtension)
        }),
        ("GNU name for ustar", vec![gnu(b'L', b"l", b"long\0"), file()], |p| {
            matches!(p, P::MixedFormats)
        }),
        (
            "both extensions",
            vec![pax(&[("path", "b")]), gnu(b'L', b"l", b"long\0"), gnu(b'0', b"a", b"")],
            |p| matches!(p, P::MixedFormats),
        ),
        ("PAX for GNU", vec![pax(&[("path", "b")]), gnu(b'0', b"a", b"")], |p| {
            matches!(p, P::MixedFormats)
        }),
        ("ustar long name", vec![plain(b'L', b"l", b"long\0"), file()], |p| matches!(p, P::Magic)),
        ("NUL in a long name", vec![gnu(b'L', b"l", b"lo\0ng\0"), gnu(b'0', b"a", b"")], |p| {
            matches!(p, P::BytesBehindNul { .. })
        }),
        ("file as directory", vec![plain(b'0', b"a/", b"")], |p| {
            matches!(p, P::FileNamedAsDirectory)
        }),
        ("no name", vec![plain(b'0', b"", b"")], |p| matches!(p, P::EmptyName)),
        ("no target", vec![plain(b'1', b"a", b"")], |p| matches!(p, P::EmptyLink)),
        ("content of a directory", vec![plain(b'5', b"a", b"1")], |p| {
            matches!(p, P::UnexpectedContent { .. })
        }),
        ("past the end", vec![block(b'0', b"a", 1 << 30, |_| ())], |p| matches!(p, P::Truncated)),
        (
            "prefix under GNU magic",
            vec![block(b'0', b"a", 0, |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[345..348].copy_from_slice(b"777");
                b[400] = b'x';
            })],
            |p| matches!(p, P::Sparse),
        ),
    ];
    for (name, parts, expected) in cases {
        match read(&parts) {
            Err(problem) => assert!(expected(&problem), "{name}: {problem}"),
            Ok(entries) => panic!("{name} was read: {entries:?}"),
        }
    }
}

#[test]
fn bounds() {
    let limits = TarLimits {
        entries_max: 2,
        name_bytes_max: 10,
        depth_max: 3,
        pax_bytes_max: 100,
        xattr_bytes_max: 30,
        metadata_bytes_max: 1000,
    };
    let file = || plain(b'0', b"a", b"");
    assert!(read_with(&[file(), file()], limits).is_ok());
    let too_much = [
        vec![file(), file(), file()],
        vec![plain(b'0', b"longer name", b"")],
        vec![pax(&[("path", "much longer")]), file()],
        vec![gnu(b'L', b"l", b"much longer\0"), gnu(b'0', b"a", b"")],
        vec![plain(b'5', b"1/2/3/4", b"")],
        vec![pax(&[("k", &"v".repeat(100))]), file()],
        vec![pax(&[("SCHILY.xattr.a", "17 bytes are much")]), file()],
    ];
    for parts in too_much {
        let problem = read_with(&parts, limits).unwrap_err();
        assert!(problem.is_limit(), "{problem}");
    }
    let sum = TarLimits { entries_max: 100, metadata_bytes_max: 50, ..limits };
    let entries = || [pax(&[("k", "vvvvvvvv")]), file()].concat();
    assert!(read_with(&[entries(), entries(), entries()], sum).is_ok());
    assert!(read_with(&[entries(), entries(), entries(), entries()], sum).unwrap_err().is_limit());
}

#[test]
fn messages_escape_names() {
    let archive = [plain(b'0', b"\x1b[31m", b""), vec![1; BLOCK]].concat();
    let mut tar = Reader::new(&archive[..], TarLimits::default());
    assert!(tar.next_entry().unwrap().is_some());
    let error = tar.next_entry().unwrap_err();
    assert!(error.to_string().starts_with("tar entry number 1"), "{error}");
    assert_eq!(show(b"\x1b[31m\xff\n"), "\\u{1b}[31m\u{fffd}\\n");
    assert!(show(&[b'x'; 1000]).len() < 210);
}

/// Hands bytes out in pieces of any length.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buf.len()).min(self.0.len());
        let (now, later) = self.0.split_at(length);
        buf[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

fn any_header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let name = "[a-zé]{1,8}(/[a-z.]{1,60}){0,4}";
    let content = proptest::collection::vec(any::<u8>(), 0..1500);
    let numbers = (0u32..0o10000, 0u64..1 << 30, 0i64..1 << 40);
    let kinds = [Kind::Regular, Kind::Symlink, Kind::Directory];
    (name, content, numbers, proptest::sample::select(kinds.to_vec()), "[a-z]{0,40}").prop_map(
        |(name, content, numbers, kind, value)| {
            let mut header = Header::new(kind.clone(), name);
            (header.mode, header.uid, header.mtime) = numbers;
            header.user_name = b"user".to_vec();
            if !value.is_empty() {
                header.pax.insert(b"SCHILY.xattr.user.x".to_vec(), value.clone().into_bytes());
            }
            match kind {
                Kind::Regular => header.size = content.len() as u64,
                Kind::Symlink => header.link_name = format!("to/{value}").into_bytes(),
                _ => {}
            }
            let content = if kind == Kind::Regular { content } else { Vec::new() };
            (header, content)
        },
    )
}

proptest! {
    #[test]
    fn what_the_writer_writes_is_read(
        entries in proptest::collection::vec(any_header(), 0..6),
        piece in 1usize..3000,
    ) {
        let mut writer = Writer::new(Vec::new());
        for (header, content) in &entries {
            writer.header(header).unwrap();
            writer.data(content).unwrap();
        }
        let archive = writer.finish().unwrap();
        let mut tar = Reader::new(Pieces(&archive, piece), TarLimits::default());
        for (header, content) in &entries {
            let mut found = tar.next_entry().unwrap().unwrap();
            let offset = tar.offset() as usize;
            prop_assert_eq!(&archive[offset..offset + content.len()], &content[..]);
            prop_assert_eq!(&tar.content(u64::MAX).unwrap(), content);
            found.format = header.format;
            prop_assert_eq!(&found, header);
        }
        prop_assert!(tar.next_entry().unwrap().is_none());
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read(std::slice::from_ref(&bytes));
        let _ = Records::parse(&bytes, 1000);
    }

    #[test]
    fn any_header_fields_end(
        changes in proptest::collection::vec((0usize..BLOCK, any::<u8>()), 1..8),
        kind in proptest::sample::select(b"01235xgLKS\0".to_vec()),
    ) {
        let change = |block: &mut Block| for (at, byte) in &changes { block[*at] = *byte };
        let content = vec![b'1'; BLOCK];
        let _ = read(&[block(kind, b"name", 20, change), content, plain(b'0', b"a", b"")]);
    }
}
