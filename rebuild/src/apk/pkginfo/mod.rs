//! `.PKGINFO` as apko understands it: the go-ini dialect of INI, mapped to the fields of a package
//! (apko-assembly.md, 4.1).
//!
//! Invariant: a value is what apko would take, its quirks included (`pkgdesc = a; b` is `a`), or
//! the file is refused. It must never let a control character through: values become lines of
//! the installed database.

mod ini;
mod number;

pub use ini::IniError;

use ini::Ini;

/// Length of a `.PKGINFO`. Real ones are below 100 KiB, with thousands of provides.
pub const PKGINFO_BYTES_MAX: u64 = 4 << 20;

/// What a package says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageInfo {
    /// `pkgname`
    pub name: String,
    /// `pkgver`
    pub version: String,
    /// `arch`
    pub arch: String,
    /// `pkgdesc`
    pub description: String,
    /// `license`
    pub license: String,
    /// `origin`: the source package
    pub origin: String,
    /// `maintainer`
    pub maintainer: String,
    /// `url`
    pub url: String,
    /// `commit` of the package's build recipe
    pub commit: String,
    /// `depend`, in order, without repetitions of a whole line
    pub depends: Vec<String>,
    /// `provides`
    pub provides: Vec<String>,
    /// `install_if`
    pub install_if: Vec<String>,
    /// `replaces`
    pub replaces: Vec<String>,
    /// `triggers`
    pub triggers: Vec<String>,
    /// `size`, in bytes
    pub installed_size: u64,
    /// `provider_priority`
    pub provider_priority: u64,
    /// `builddate`, in seconds since 1970
    pub build_date: i64,
    /// `datahash` as it is written
    pub data_hash: String,
}

/// A `.PKGINFO` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum PkgInfoError {
    #[error("expected UTF-8 in .PKGINFO, found other bytes at {at}")]
    NotUtf8 { at: usize },
    #[error("expected the lines of .PKGINFO, found: {0}")]
    Syntax(#[from] IniError),
    #[error("expected a value for {key} in .PKGINFO, found none")]
    Missing { key: &'static str },
    #[error("expected {key} of .PKGINFO without spaces and slashes, found {found:?}")]
    NotPlain { key: &'static str, found: String },
    #[error("expected no control characters in {key} of .PKGINFO, found {found:?}")]
    ControlCharacter { key: &'static str, found: char },
}

impl PackageInfo {
    /// Reads the bytes of a `.PKGINFO`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PkgInfoError> {
        // A byte order mark is skipped; one of UTF-16 makes the text no UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes)
            .map_err(|error| PkgInfoError::NotUtf8 { at: error.valid_up_to() })?;
        let ini = Ini::parse(text)?;
        let scalar = |key| checked(key, ini.scalar(key)?);
        let list = |key| -> Result<Vec<String>, PkgInfoError> {
            ini.list(key)?.into_iter().map(|value| checked(key, value)).collect()
        };
        let unsigned = |key| Ok::<_, PkgInfoError>(number::unsigned(&scalar(key)?).unwrap_or(0));
        Ok(Self {
            name: plain("pkgname", scalar("pkgname")?)?,
            version: plain("pkgver", scalar("pkgver")?)?,
            arch: scalar("arch")?,
            description: scalar("pkgdesc")?,
            license: scalar("license")?,
            origin: scalar("origin")?,
            maintainer: scalar("maintainer")?,
            url: scalar("url")?,
            commit: scalar("commit")?,
            depends: list("depend")?,
            provides: list("provides")?,
            install_if: list("install_if")?,
            replaces: list("replaces")?,
            triggers: list("triggers")?,
            installed_size: unsigned("size")?,
            provider_priority: unsigned("provider_priority")?,
            build_date: number::signed(&scalar("builddate")?).unwrap_or(0),
            data_hash: scalar("datahash")?,
        })
    }
}

fn checked(key: &'static str, value: String) -> Result<String, PkgInfoError> {
    match value.chars().find(|c| c.is_control() && *c != '\t') {
        Some(found) => Err(PkgInfoError::ControlCharacter { key, found }),
        None => Ok(value),
    }
}

fn plain(key: &'static str, value: String) -> Result<String, PkgInfoError> {
    match () {
        () if value.is_empty() => Err(PkgInfoError::Missing { key }),
        () if is_plain(&value) => Ok(value),
        () => Err(PkgInfoError::NotPlain { key, found: value.chars().take(100).collect() }),
    }
}

/// True for what may be a part of a URL, of a file name and of a line: printable ASCII without
/// spaces and slashes, not beginning with a dot.
pub(super) fn is_plain(text: &str) -> bool {
    !text.starts_with('.') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(rest: &str) -> PackageInfo {
        PackageInfo::parse(format!("pkgname = a\npkgver = 1\n{rest}").as_bytes()).unwrap()
    }

    #[test]
    fn values_as_go_ini_takes_them() {
        let info = parse(concat!(
            "# a comment\n; another\n\n",
            "  pkgdesc = a; b\n",
            "license: \"MIT # AND\" \n",
            "url = 'https://x'\n",
            "maintainer=A \"B\" <c>\n",
            "origin = `a;b`\n",
            "size = 0x10\nprovider_priority = 017\nbuilddate = -12\n",
            "depend = so:libc.so.6\ndepend = b>=1, c\ndepend = so:libc.so.6\n",
            "provides =\nprovides = x=1\n",
            "commit = %(pkgname)s-%(nothing)s\n",
            "unknown = 1\n",
        ));
        assert_eq!(info.description, "a");
        assert_eq!(info.license, "\"MIT", "the comment is cut before quotes are looked at");
        assert_eq!(info.url, "https://x");
        assert_eq!(info.maintainer, "A \"B\" <c>");
        assert_eq!(info.origin, "a;b");
        assert_eq!((info.installed_size, info.provider_priority, info.build_date), (16, 15, -12));
        assert_eq!(info.depends, ["so:libc.so.6", "b>=1", "c"]);
        assert_eq!(info.provides, ["x=1"]);
        assert_eq!(info.commit, "a-%(nothing)s");
        let defaults = parse("size = many\nbuilddate = 08\n");
        assert_eq!((defaults.installed_size, defaults.build_date), (0, 0));
    }

    #[test]
    fn continuation_and_quotes_over_lines() {
        let info = parse("pkgdesc = one \\\n  two # three\\\n four\nurl = \"\"\"x # y\"\"\" z\n");
        assert_eq!(info.description, "one two # threefour", "no comment is cut there");
        assert_eq!(info.url, "x # y");
        let other = parse("[section]\npkgdesc = not mine\n[DEFAULT]\nurl = mine\n");
        assert_eq!((other.description.as_str(), other.url.as_str()), ("", "mine"));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "pkgname = a\n",
            "pkgver = 1\n",
            "pkgname = a\npkgver = 1\nno delimiter\n",
            "pkgname = a\npkgver = 1\n= 1\n",
            "pkgname = a\npkgver = 1\n[open\n",
            "pkgname = a\npkgver = 1\n[]\n",
            "pkgname = a\npkgver = 1\npkgdesc = `a\n",
            "pkgname = a\npkgver = 1\npkgdesc = \"\"\"a\nP:b\n\"\"\"\n",
            "pkgname = a\npkgver = 1\npkgdesc = a\x01\n",
            "pkgname = %(pkgname)s%(pkgname)s\npkgver = 1\n",
        ] {
            assert!(PackageInfo::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(PackageInfo::parse(b"pkgname = \xff\npkgver = 1\n").is_err());
        let many = "%(x)s,".repeat(100_000);
        let bomb = format!("pkgname = a\npkgver = 1\nx = {}\ndepend = {many}\n", "y".repeat(1000));
        assert!(PackageInfo::parse(bomb.as_bytes()).is_err());
        let lines: String = (0..30_000).map(|n| format!("depend = d{n}\n")).collect();
        assert!(
            PackageInfo::parse(format!("pkgname = a\npkgver = 1\n{lines}").as_bytes()).is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_ends(
            lines in proptest::collection::vec(
                ("(pkgname|depend|size|#|;|\\[|\"|`|\"\"\")?", "[=:%()s a-z0-9\"'`\\\\,;#é\r]{0,9}"),
                0..12,
            ),
        ) {
            let text: String = lines.iter().map(|(key, rest)| format!("{key}{rest}\n")).collect();
            if let Ok(info) = PackageInfo::parse(format!("pkgver = 1\n{text}").as_bytes()) {
                prop_assert!(is_plain(&info.name) && !info.name.is_empty());
                let texts = info.depends.iter().chain([&info.description, &info.license]);
                prop_assert!(texts.into_iter().all(|text| !text.contains('\n')));
            }
        }
    }
}
