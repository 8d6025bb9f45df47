//! Names of architectures: OCI's, apk's, and what people write.
//!
//! Invariant: `oci` is idempotent and `apk` is its inverse on the supported ones. A name that is
//! not known passes unchanged, as in apko.

/// What apko builds when no architecture is named.
pub const SUPPORTED: &[&str] =
    &["386", "amd64", "arm64", "arm/v6", "arm/v7", "loong64", "ppc64le", "riscv64", "s390x"];

const NAMES: &[(&str, &str)] = &[
    ("x86", "386"),
    ("x86_64", "amd64"),
    ("aarch64", "arm64"),
    ("armhf", "arm/v6"),
    ("armv7", "arm/v7"),
    ("loongarch64", "loong64"),
];

/// The OCI name (with variant) of an architecture that either world names.
pub fn oci(name: &str) -> &str {
    NAMES.iter().find(|(apk, _)| *apk == name).map_or(name, |(_, oci)| oci)
}

/// The name that apk and its repositories use.
pub fn apk(name: &str) -> &str {
    NAMES.iter().find(|(_, oci)| *oci == name).map_or(name, |(apk, _)| apk)
}

/// Architecture and variant of an OCI image: `arm/v7` is `("arm", Some("v7"))`.
pub fn parts(name: &str) -> (&str, Option<&str>) {
    match name.split_once('/') {
        Some((architecture, variant)) => (architecture, Some(variant)),
        None => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for name in SUPPORTED {
            assert_eq!(oci(apk(name)), *name);
            assert_eq!(oci(name), *name);
        }
        assert_eq!(apk("arm/v7"), "armv7");
        assert_eq!(parts("arm/v7"), ("arm", Some("v7")));
        assert_eq!(parts("amd64"), ("amd64", None));
    }
}
