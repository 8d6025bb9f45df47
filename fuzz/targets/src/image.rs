//! What the assembler reads of an image while it makes it: libraries, `ld.so.conf`, accounts,
//! certificates, trust stores.

use crate::build;
use rebuild::{
    apk::package::Package,
    apko::{Behaviour, ImageConfiguration, post::ld_cache::shared_library},
};

/// Parts of an input stand between these bytes.
const BETWEEN: &[u8] = b"\n%%\n";

fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let all = rest?;
        let end = all.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        rest = end.map(|end| &all[end + BETWEEN.len()..]);
        Some(&all[..end.unwrap_or(all.len())])
    })
}

/// A file that may be a library.
pub fn elf(bytes: &[u8]) {
    if let Some((_, names)) = shared_library(bytes.to_vec()) {
        let all: usize = names.iter().map(Vec::len).sum();
        assert!(all <= bytes.len().saturating_mul(64), "{all} bytes of names");
    }
}

fn build(config: &ImageConfiguration, package: Option<Package>) {
    let package = package.expect("a good package");
    let once = build::image(config, vec![package.clone_for_again()], Behaviour::newest());
    let again = build::image(config, vec![package], Behaviour::newest());
    match (once, again) {
        (Some(Ok(once)), Some(Ok(again))) => assert_eq!(once.config, again.config),
        (Some(Err(once)), Some(Err(again))) => assert_eq!(once.to_string(), again.to_string()),
        (once, again) => panic!("{once:?} and then {again:?}"),
    }
}

/// A package is not `Clone`; a copy of its parts is the same package.
trait Again {
    fn clone_for_again(&self) -> Self;
}

impl Again for Package {
    fn clone_for_again(&self) -> Self {
        Self {
            info: self.info.clone(),
            control_sha1: self.control_sha1,
            data_sha256: self.data_sha256,
            file_size: self.file_size,
            file_sha256: self.file_sha256,
            control: Vec::new(),
            entries: self.entries.clone(),
            data: self.data.clone(),
            signature: None,
        }
    }
}

/// `etc/ld.so.conf`, a file that it may include, and a library.
pub fn ld_so_conf(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let mut part = || parts.next().unwrap_or_default();
    let entries = [
        build::directory("opt"),
        build::file("opt/libx.so.1", b"not a library"),
        build::file("etc/ld.so.conf", part()),
        build::directory("etc/ld.so.conf.d"),
        build::file("etc/ld.so.conf.d/a.conf", part()),
        build::file("lib/libone.so.1", part()),
    ];
    build(&ImageConfiguration::default(), build::package(&entries));
}

/// Accounts, busybox links and device files' neighbours.
pub fn image_files(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let mut part = || parts.next().unwrap_or_default();
    let mut config = ImageConfiguration::default();
    config.accounts.run_as = "user".into();
    config.accounts.users.push(rebuild::apko::config::User {
        username: "user".into(),
        uid: 1000,
        ..Default::default()
    });
    let entries = [
        build::file("etc/passwd", part()),
        build::file("etc/shadow", part()),
        build::directory("etc/busybox-paths.d"),
        build::file("bin/busybox", b"#!"),
        build::file("etc/busybox-paths.d/fuzz", part()),
    ];
    build(&config, build::package(&entries));
}

/// A certificate of the configuration, a bundle, certificates of a package, a Java trust store.
pub fn trust_stores(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let mut part = || parts.next().unwrap_or_default();
    let mut config = ImageConfiguration::default();
    config.certificates = Some(rebuild::apko::config::Certificates {
        additional: vec![rebuild::apko::config::AdditionalCertificate {
            name: "one".into(),
            content: String::from_utf8_lossy(part()).into_owned(),
        }],
        providers: vec!["busybox".into()],
    });
    let entries = [
        build::directory("etc/ssl"),
        build::directory("etc/ssl/certs"),
        build::directory("etc/ssl/certs/java"),
        build::directory("usr/local"),
        build::directory("usr/local/share"),
        build::directory("usr/local/share/ca-certificates"),
        build::file("usr/local/share/ca-certificates/a.crt", part()),
        build::file("etc/ssl/certs/java/cacerts", part()),
        build::file("etc/ssl/certs/ca-certificates.crt", part()),
    ];
    build(&config, build::package(&entries));
}
