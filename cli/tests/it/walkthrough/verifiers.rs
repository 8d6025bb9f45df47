//! Stock verifiers on what was published: cosign accepts the attestation of the reproduced image, on
//! its index and on both platforms, and has nothing to accept for any other, although one of those
//! has the very same platform manifests in another repository.

use crate::{
    peer,
    stage::{IMAGES, Stage, fixtures},
};
use serde_json::Value;

/// The index and every platform of an image.
fn digests(case: &Value) -> Vec<String> {
    let platforms = case["platforms"].as_object().unwrap().values();
    let manifests = platforms.map(|platform| platform["manifest"].as_str().unwrap().to_owned());
    std::iter::once(case["index"].as_str().unwrap().to_owned()).chain(manifests).collect()
}

/// Runs cosign on every digest of every image.
pub fn accept_only_what_was_reproduced(stage: &Stage, host: &str) {
    if peer::program("cosign").is_none() {
        return;
    }
    let path = host.replace(':', "_");
    let cases = std::fs::read(fixtures().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    for name in IMAGES {
        for digest in digests(&cases[name]) {
            let line = format!(
                "COSIGN_REPOSITORY={host}/assay/{path}/demo/{name} cosign verify-attestation \
                 --key srv/gate/keys/coordinator.pub --insecure-ignore-tlog=true \
                 --type https://slsa.dev/verification_summary/v1 {host}/demo/{name}@{digest}"
            );
            let ended = stage.run(&line);
            let accepted = ended.code == Some(0);
            assert_eq!(accepted, name == "hello", "{line}\n{}\n{}", ended.out, ended.said);
            if accepted {
                let levels = levels(&ended.out);
                let index = digest == cases[name]["index"].as_str().unwrap();
                let wanted =
                    if index { "ASSAY_ALL_PLATFORMS_REPRODUCED" } else { "SLSA_BUILD_REPRODUCED" };
                assert!(levels.iter().any(|level| level == wanted), "{digest}: {levels:?}");
            } else {
                let nothing = ["no matching attestations", "no attestations", "no signatures"];
                let said = nothing.iter().any(|words| ended.said.contains(words));
                assert!(said, "refused for another reason: {}", ended.said);
            }
        }
    }
}

/// The levels that cosign shows: one attestation, as DSSE JSON.
fn levels(out: &str) -> Vec<String> {
    let envelopes: Vec<Value> =
        out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [envelope] = envelopes.as_slice() else { panic!("expected one attestation: {out}") };
    let envelope = attest::dsse::Envelope::from_value(envelope.clone()).unwrap();
    let statement: Value = serde_json::from_slice(&envelope.payload).unwrap();
    let levels = statement["predicate"]["verifiedLevels"].as_array().unwrap();
    levels.iter().map(|level| level.as_str().unwrap().to_owned()).collect()
}
