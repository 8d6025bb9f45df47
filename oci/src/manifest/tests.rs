//! Hostile and odd manifests: each is read as every other reader reads it, or refused by name.

use super::*;
use proptest::prelude::*;

const HEX: &str = "7d0b95f890827475aeaa67a37f1bc2289c11658413bbe64a253cc24da2be6b12";

fn manifest(extra: &str) -> String {
    let descriptor =
        |media: &str| format!(r#"{{"mediaType":"{media}","digest":"sha256:{HEX}","size":3}}"#);
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]{extra}}}"#,
        media::OCI_MANIFEST,
        descriptor(media::IMAGE_CONFIG),
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip"),
    )
}

fn index(entry_extra: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media::OCI_INDEX,
        format_args!(
            r#"{{"mediaType":"{}","digest":"sha256:{HEX}","size":3{entry_extra}}}"#,
            media::OCI_MANIFEST
        ),
    )
}

fn refused(text: &str, declared: Option<&str>) -> String {
    read(text.as_bytes(), declared, "the test").unwrap_err().to_string()
}

#[test]
fn plain_documents_are_read() {
    let (media_type, document) = read(manifest("").as_bytes(), None, "the test").unwrap();
    assert_eq!(media_type, media::OCI_MANIFEST);
    let Document::Manifest(manifest) = document else { panic!("expected a manifest") };
    assert_eq!((manifest.layers.len(), manifest.kind()), (1, media::IMAGE_CONFIG));

    let text = index(r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#);
    let index = read_image_index(text.as_bytes(), Some(media::OCI_INDEX), "the test").unwrap();
    assert_eq!(index.entries[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
}

#[test]
fn documents_that_readers_read_differently_are_refused() {
    for (text, declared, expected) in [
        (manifest(r#","manifests":[]"#), None, "both"),
        (manifest(r#","fsLayers":[]"#), None, "both"),
        (manifest(r#","layers":[]"#), None, "twice"),
        (manifest(r#","Layers":[]"#), None, "\"layers\""),
        (manifest(r#","conf\u0131g":1,"subject":[]"#), None, "object"),
        (manifest(""), Some(media::OCI_INDEX), "media type"),
        (manifest(""), Some(media::DOCKER_MANIFEST), "media type"),
        (
            index(r#","config":{}"#).replace(r#""manifests""#, r#""layers":[],"manifests""#),
            None,
            "both",
        ),
        (index(r#","Platform":{}"#), None, "\"platform\""),
    ] {
        let message = refused(&text, declared);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn fields_of_the_wrong_kind_are_refused() {
    for (from, to, expected) in [
        ("\"size\":3", "\"size\":-3", "size"),
        ("\"size\":3", "\"size\":\"3\"", "size"),
        ("\"size\":3", "\"size\":3.5", "size"),
        ("sha256:", "sha512:", "sha256:"),
        (&HEX[..4], "7D0B", "sha256:"),
        ("\"schemaVersion\":2", "\"schemaVersion\":1", "schemaVersion 2"),
        ("\"layers\":[", "\"other\":[", "layers"),
        ("\"config\":", "\"other\":", "config"),
        (media::OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v1+json", "media type"),
    ] {
        let message = refused(&manifest("").replace(from, to), None);
        assert!(message.contains(expected), "{to}: {message}");
    }
    for platform in [
        r#"{"os":"linux"}"#,
        r#"{"os":"linux","architecture":"a/b"}"#,
        r#"{"os":"lin\u001bux","architecture":"a"}"#,
        r#"[]"#,
    ] {
        let text = index(&format!(r#","platform":{platform}"#));
        assert!(refused(&text, None).contains("the test"), "{platform}");
    }
}

#[test]
fn bounds_hold() {
    let entry = format!(r#"{{"mediaType":"a/b","digest":"sha256:{HEX}","size":3}},"#);
    let many =
        index("").replace("\"manifests\":[", &format!("\"manifests\":[{}", entry.repeat(1024)));
    assert!(refused(&many, None).contains("at most 1024 entries"));
    let padded = format!("{}{}", manifest(""), " ".repeat(media::MANIFEST_BYTES_MAX as usize));
    assert!(refused(&padded, None).contains("at most 4194304 bytes"));
}

#[test]
fn null_is_as_if_absent() {
    let text = manifest(r#","annotations":null,"subject":null,"artifactType":null"#);
    let manifest = read_image_manifest(text.as_bytes(), None, "the test").unwrap();
    assert!(manifest.annotations.is_empty() && manifest.subject.is_none());
}

proptest! {
    #[test]
    fn descriptors_round_trip(
        size in any::<u64>(), os in "[a-z]{1,8}", key in "\\PC{0,9}", value in "\\PC{0,9}",
    ) {
        let mut descriptor = Descriptor::of("a/b", b"x");
        descriptor.size = size;
        descriptor.platform = Some(Platform { os, architecture: "amd64".into(), variant: None });
        descriptor.annotations.insert(key, value);
        prop_assert_eq!(read_descriptor(&descriptor.to_json(), "the test").unwrap(), descriptor);
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0usize..300, byte in any::<u8>()) {
        let mut bytes = manifest(r#","subject":null"#).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = read(&bytes, None, "the test");
    }
}
