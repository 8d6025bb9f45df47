//! Writing layouts: atomic, readable by ourselves, careful with what others wrote.

use attest::Repository;
use bytes::Bytes;
use oci::{
    Copy, Descriptor, Destination, ErrorKind, Image, ImageReference, ImageSource, Layout,
    LayoutWriter, SourceOptions, Tag, discover_image, media,
};
use std::{fs, os::unix::fs::symlink, path::Path};

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

#[tokio::test]
async fn an_image_with_its_evidence_is_copied_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = crate::published::open();
    let destination = Destination::Layout(LayoutWriter::create(folder.path()).unwrap());
    let (from, to) = (repository("demo/hello-both"), repository("kept/both"));
    let reference = crate::published::reference(":demo/hello-both:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    let copy = Copy { source: &source, from: &from, destination: &destination, to: &to };
    copy.manifest(&image.digest(), Some(&tag("latest"))).await.unwrap();
    for digest in [image.digest(), image.entries[0].descriptor.digest] {
        for name in [Tag::fallback_of(&digest), Tag::legacy_attestations_of(&digest)] {
            let found = source.tag(&from, &name).await.unwrap().unwrap();
            copy.manifest(&found, Some(&name)).await.unwrap();
        }
    }
    let kept: ImageReference =
        format!("oci:{}:kept/both:latest", folder.path().display()).parse().unwrap();
    let copied = ImageSource::open(&kept, &SourceOptions::default()).unwrap();
    let again = Image::read(&copied, &kept).await.unwrap();
    assert_eq!(again.digest(), image.digest());
    let found = discover_image(&copied, &again).await.unwrap();
    assert_eq!((found.evidence.len(), found.problems.len()), (10, 0));
    assert!(names(&folder.path().join("blobs/sha256")).iter().all(|name| name.len() == 64));
    assert_eq!(names(folder.path()), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn tags_move_go_and_leave_strange_entries_alone() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    let index = folder.path().join("index.json");
    let strange = format!(
        r#"{{"schemaVersion":2,"x":[1.5],"manifests":[{{"mediaType":"a/b","digest":"sha256:{}",{}"#,
        "0".repeat(64),
        r#""size":1,"y":{"z":null}}]}"#
    );
    fs::write(&index, strange).unwrap();
    let empty = |note: &str| {
        let annotations = serde_json::json!({ "n": note });
        serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
            "annotations": annotations,
        })
        .to_string()
    };
    let one = writer.put_manifest(media::OCI_INDEX, empty("1").as_bytes()).unwrap();
    let two = writer.put_manifest(media::OCI_INDEX, empty("2").as_bytes()).unwrap();
    let (a, b) = (repository("a"), repository("b"));
    writer.tag(&a, &tag("x"), &one).unwrap();
    writer.tag(&b, &tag("x"), &one).unwrap();
    writer.tag(&a, &tag("x"), &two).unwrap();
    let layout = || Layout::open(folder.path()).unwrap();
    assert_eq!(layout().tag(&a, &tag("x")).unwrap(), Some(two.digest));
    assert_eq!(layout().tag(&b, &tag("x")).unwrap(), Some(one.digest));
    writer.remove(&a, &one.digest).unwrap();
    assert_eq!(layout().tag(&b, &tag("x")).unwrap(), Some(one.digest));
    assert!(writer.untag(&a, &tag("x")).unwrap());
    assert!(!writer.untag(&a, &tag("x")).unwrap());
    assert_eq!(layout().tag(&a, &tag("x")).unwrap(), None);
    let text = fs::read_to_string(&index).unwrap();
    assert!(text.contains("\"z\": null") && text.contains("1.5"), "{text}");
    assert_eq!(layout().entries().len(), 2);
}

#[test]
fn nothing_is_written_through_links_or_under_wrong_names() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("blobs")).unwrap();
    symlink(outside.path(), folder.path().join("blobs/sha256")).unwrap();
    let error = LayoutWriter::create(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert_eq!(names(outside.path()), [""; 0]);

    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    let error = writer.put_manifest(media::OCI_MANIFEST, b"{}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let absent = Descriptor::of(media::OCI_MANIFEST, b"absent");
    let error = writer.tag(&repository("a"), &tag("x"), &absent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = LayoutWriter::create("/proc/nothing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_damaged_blob_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    let digest = writer.put_blob(b"right").unwrap();
    let path = folder.path().join("blobs/sha256").join(digest.hex());
    for damage in [&b"wrong"[..], b"cut"] {
        fs::write(&path, damage).unwrap();
        writer.put_blob(b"right").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"right");
    }
}

#[test]
fn many_writers_at_once_lose_no_tag() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    let bytes =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
    let manifest = writer.put_manifest(media::OCI_INDEX, bytes.as_bytes()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (manifest, path) = (&manifest, folder.path());
            scope.spawn(move || {
                let writer = LayoutWriter::create(path).unwrap();
                for m in 0..4 {
                    writer.tag(&repository("a"), &tag(&format!("t{n}-{m}")), manifest).unwrap();
                }
            });
        }
    });
    assert_eq!(Layout::open(folder.path()).unwrap().entries().len(), 32);
}

/// Runs one test of this binary again with files limited to one block. A write beyond it fails as
/// on a full disk, in the middle of the file.
fn again_with_small_files(name: &str) {
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" --exact \"$1\" --nocapture";
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(limited)
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env("ASSAY_TEST_SMALL_FILES", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    if std::env::var_os("ASSAY_TEST_SMALL_FILES").is_none() {
        again_with_small_files("layout_writer::a_full_disk_leaves_nothing_half_written");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    let blobs = folder.path().join("blobs/sha256");
    let destination = Destination::Layout(writer.clone());
    let large = Bytes::from(vec![7; 4096]);
    let error = destination.put_blob(&repository("a"), large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(names(&blobs), [""; 0]);

    // index.json grows beyond the limit: the old one stays, whole.
    let bytes = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
    });
    let small = writer.put_manifest(media::OCI_INDEX, bytes.to_string().as_bytes()).unwrap();
    let failed =
        (0..20).find(|n| writer.tag(&repository("a"), &tag(&format!("t{n}")), &small).is_err());
    let written = failed.expect("a block holds fewer than twenty entries");
    assert_eq!(Layout::open(folder.path()).unwrap().entries().len(), written);
    assert_eq!(names(folder.path()), ["blobs", "index.json", "oci-layout"]);

    // A layer that is streamed into its place.
    let source = crate::published::open();
    let reference = crate::published::reference(":demo/hello:latest");
    let image = Image::read(&source, &reference).await.unwrap();
    let manifest = source.manifest(image.repository(), &image.entries[0].descriptor.digest).await;
    let manifest = manifest.unwrap();
    let manifest = oci::manifest::read_image_manifest(&manifest.bytes, None, "it").unwrap();
    let layer = &manifest.layers[0];
    let path = writer.missing_blob(layer).unwrap().unwrap();
    let result = source.blob_to_file(image.repository(), layer, 1 << 30, &path).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(names(&blobs), [small.digest.hex()]);
}

#[tokio::test]
async fn a_folder_that_goes_away_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LayoutWriter::create(folder.path()).unwrap();
    fs::remove_dir(folder.path().join("blobs/sha256")).unwrap();
    let destination = Destination::Layout(writer);
    let error = destination.put_blob(&repository("a"), Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}
