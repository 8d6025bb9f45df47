//! Attestations get where they go: also when the registry is away, and when the coordinator is
//! stopped meanwhile; and never twice.

use crate::{
    peer::free_port,
    stage::{Host, Stage, fixtures},
};
use attest::evidence::EvidenceKind;
use oci::ImageSource;
use serde_json::Value;

const PENDING: &str = "assay publish --dry-run --format json";

/// A coordinator that publishes into `sidecar`, and one worker of the first of these operators, that
/// is enough.
pub async fn small_fleet(images: &Host, sidecar: &str, operators: &[&str]) -> Stage {
    images.fill(&["hello"]).await;
    let mut stage = Stage::new();
    let (grpc, https) = (free_port(), free_port());
    let from = fixtures();
    let (packages, publisher) = (from.join("packages"), from.join("keys/publisher.pub"));
    let pin = attest::Digest::of(&std::fs::read(packages.join("assay-test-6a1f.rsa.pub")).unwrap());
    stage.expect(
        &format!(
            "assay coordinator init c --listen 127.0.0.1:{grpc} --listen-http 127.0.0.1:{https} \
             --publish '{sidecar}/assay/{{host}}/{{repository}}' && for name in {}; do \
             assay operator keygen $name --dir c; done && cp {} c/publisher.pub && \
             sed -i 's/^observations_wanted = 3/observations_wanted = 1/' c/coordinator.toml",
            operators.join(" "),
            publisher.display()
        ),
        0,
    );
    let each = operators.iter();
    let tables: String = each
        .map(|name| format!("[[operator]]\nname = \"{name}\"\nroot_key = \"{name}.pub\"\n"))
        .collect();
    let policy = format!(
        "[[publisher]]\nrepositories = [\"{0}/demo/*\"]\nkey = \"publisher.pub\"\n\
         transparency = \"none\"\n[[package_repository]]\n\
         url = \"https://packages.assay.test/*\"\nkeys = \"discovery\"\npins = [\"{pin}\"]\n\
         complete = true\n[[mirror]]\nprefix = \"https://packages.assay.test/\"\n\
         url = \"file://{1}/\"\ncomplete = true\n\
         [[registry]]\nhost = \"{0}\"\nplain_http = true\n\
         [[registry]]\nhost = \"{sidecar}\"\nplain_http = true\n\
         {tables}[quorum]\noperators = {operators:?}\nreproduced = 1\n\
         hints = [\"epoch\", \"install-order\", \"key-set\"]\n",
        images.name(),
        std::fs::canonicalize(packages).unwrap().display()
    );
    std::fs::write(stage.path("c/policy.toml"), policy).unwrap();
    for (name, value) in [
        ("ASSAY_COORDINATOR", format!("https://localhost:{grpc}")),
        ("ASSAY_CA", "c/ca.pem".to_owned()),
        ("ASSAY_KEY", "c/admin.key".to_owned()),
    ] {
        stage.env.insert(name.to_owned(), value);
    }
    start(&mut stage);
    stage.expect(
        "assay worker init w --operator acme --coordinator $ASSAY_COORDINATOR --ca c/ca.pem \
         --coordinator-key c/verdict.pub --policy c/policy.toml && \
         assay operator add acme --root-key c/acme.key && \
         assay operator enroll-worker w/worker.pub --operator acme --root-key c/acme.key",
        0,
    );
    stage.start("worker", "assay worker run w", Some("worker started"));
    stage
}

/// Starts the coordinator.
pub fn start(stage: &mut Stage) {
    stage.start("coordinator", "assay coordinator run c", Some("gRPC on"));
}

/// What `assay publish --dry-run` lists.
pub fn pending(out: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(out).unwrap();
    assert_eq!(value["schema"], "assay/publish/v1");
    value["publications"].as_array().unwrap().clone()
}

/// Where `sidecar` has what is said about `hello` of `images`.
fn place(sidecar: &str, images: &Host) -> String {
    format!("{sidecar}/assay/{}/demo/hello", images.name().replace(':', "_"))
}

/// How many attestations a digest has in the sidecar.
pub async fn attestations(sidecar: &Host, images: &Host, digest: &str) -> usize {
    let source = ImageSource::Registry(sidecar.client());
    let repository = place(sidecar.name(), images).parse().unwrap();
    let found = oci::discover(&source, &repository, &digest.parse().unwrap()).await.unwrap();
    assert_eq!(found.problems, []);
    found.evidence.iter().filter(|e| e.kind == EvidenceKind::SigstoreBundle).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_gets_everything_once_when_it_is_back() {
    let images = Host::own(true, None).await;
    let sidecar = format!("127.0.0.1:{}", free_port());
    let mut stage = small_fleet(&images, &sidecar, &["acme"]).await;
    let hello = format!("{}/demo/hello:latest", images.name());
    let submitted = stage.expect(&format!("assay submit {hello} --wait --format json"), 0);
    let state: Value = serde_json::from_str(&submitted.out).unwrap();

    // Two platforms and the index wait, and the registry was asked in vain.
    let failed = |out: &str| {
        let rows = pending(out);
        rows.len() == 3 && rows.iter().all(|row| row["failures"].as_u64().unwrap() > 0)
    };
    let rows = pending(&stage.until(PENDING, failed));
    for row in &rows {
        assert_eq!(row["attested"], true, "{row}");
        assert_eq!(row["target"], place(&sidecar, &images));
        assert_eq!(row["evidence"], row["platform"] != "", "{row}");
    }
    stage.stop("coordinator");
    start(&mut stage);
    assert_eq!(pending(&stage.expect(PENDING, 0).out).len(), 3, "a restart forgets nothing");

    let sidecar = Host::own(true, Some(&sidecar)).await;
    stage.expect("assay publish", 0);
    stage.until(PENDING, |out| pending(out).is_empty());
    let platforms = state["platforms"].as_array().unwrap().iter();
    let digests: Vec<String> = platforms
        .map(|platform| platform["manifest"].as_str().unwrap().to_owned())
        .chain([state["digest"].as_str().unwrap().to_owned()])
        .collect();
    assert_eq!(digests.len(), 3);
    for digest in &digests {
        assert_eq!(attestations(&sidecar, &images, digest).await, 1, "{digest}");
    }
    let written = sidecar.writes();
    assert!(written > 0);
    stage.stop("coordinator");
    start(&mut stage);
    stage.expect("assay publish", 0);
    // Asking again for what was judged changes nothing either.
    stage.expect(&format!("assay submit {hello} --wait"), 0);
    assert!(pending(&stage.expect(PENDING, 0).out).is_empty());
    assert_eq!(sidecar.writes(), written, "something was pushed again");

    // The key of the only worker is taken back: nothing of it stands.
    stage.stop("worker");
    stage.expect(
        "assay operator revoke w/worker.pub --operator acme --root-key c/acme.key --reason lost",
        0,
    );
    let status = format!("assay status {}/demo/hello@{}", images.name(), digests[2]);
    stage.until(&format!("{status} || true"), |out| out.contains("inconclusive"));
    let mut left = 3;
    while left > 0 {
        stage.until(PENDING, |out| pending(out).is_empty());
        left = 0;
        for digest in &digests {
            left += attestations(&sidecar, &images, digest).await;
        }
    }
    stage.stop("coordinator");
}
