//! Arbitrary observations for property tests, here and in the verdict's.

use super::*;
use crate::{Gap, GapCode, Level, Platform, image_manifest::ImageManifest};
use proptest::{collection::vec, option, prelude::*};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_raw)
}

fn line() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{0,12}"
}

fn token() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}"
}

/// The bytes of a manifest with this configuration and these layers.
pub(crate) fn manifest_bytes(config: &Digest, layers: &[(Digest, u64)]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| {
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
            serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
        })
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let config_type = "application/vnd.oci.image.config.v1+json";
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": config, "size": 7},
        "layers": layers,
    }))
    .unwrap()
}

/// The output that consists of this manifest; diffIDs are made up from the blobs.
pub(crate) fn output_of(manifest_bytes: Vec<u8>) -> Output {
    let manifest = ImageManifest::parse(&manifest_bytes).unwrap();
    let layer = |d: &crate::image_manifest::ManifestDescriptor| LayerOutput {
        blob: Some(d.digest),
        diff_id: Digest::of(d.digest.raw()),
        size: d.size,
    };
    Output {
        manifest: Digest::of(&manifest_bytes),
        config: manifest.config.digest,
        layers: manifest.layers.iter().map(layer).collect(),
        manifest_bytes,
        index: None,
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let layers = vec((digest(), 0u64..1 << 53), 0..4);
    let code = (0..GapCode::ALL.len()).prop_map(|i| GapCode::ALL[i]);
    let gap = (code, line()).prop_map(|(code, detail)| Gap { code, detail }).boxed();
    prop_oneof![
        (digest(), layers, option::of(digest())).prop_map(|(config, layers, index)| {
            let output = output_of(manifest_bytes(&config, &layers));
            Outcome::Output(Output { index, ..output })
        }),
        (token(), line()).prop_map(|(class, detail)| Outcome::BuildFailed { class, detail }),
        vec(gap.clone(), 1..4).prop_map(|gaps| Outcome::RecipeInvalid { gaps }),
        (gap, line()).prop_map(|(gap, uri)| Outcome::InputUnavailable { gap, uri }),
        (0u64..1 << 53).prop_map(|limit_seconds| Outcome::Timeout { limit_seconds }),
        (token(), line()).prop_map(|(limit, detail)| Outcome::LimitExceeded { limit, detail }),
        (any::<bool>(), line()).prop_map(|(policy, detail)| Outcome::Refused {
            reason: if policy { Refusal::Policy } else { Refusal::Untrusted },
            detail
        }),
    ]
}

fn environment() -> impl Strategy<Value = Environment> {
    (line(), line(), line(), line(), line(), 0u32..512).prop_map(
        |(worker_version, rebuilder, kernel, cpu, filesystem, cpus)| Environment {
            worker_version,
            rebuilder,
            kernel,
            cpu,
            cpu_vendor: "AuthenticAMD".into(),
            filesystem,
            umask: "0022".into(),
            timezone: "UTC".into(),
            locale: "C.UTF-8".into(),
            cpus,
            architecture: "amd64".into(),
        },
    )
}

fn material() -> impl Strategy<Value = Material> {
    (line(), digest(), option::of(line()), line())
        .prop_map(|(uri, digest, from, verified_by)| Material { uri, digest, from, verified_by })
}

fn facts() -> impl Strategy<Value = (Vec<Hint>, Vec<Searched>, Vec<LayerHygieneFact>)> {
    let hint = (token(), vec(line(), 0..3)).prop_map(|(name, decided)| Hint { name, decided });
    let searched = (token(), line()).prop_map(|(flag, value)| Searched { flag, value });
    let hygiene =
        (any::<bool>(), vec(line(), 1..3)).prop_map(|(clean, why)| LayerHygieneFact { clean, why });
    (vec(hint, 0..3), vec(searched, 0..3), vec(hygiene, 0..3))
}

/// Any observation that may be signed.
pub(crate) fn observation() -> impl Strategy<Value = Observation> {
    let who = (digest(), digest(), any::<[u8; 16]>(), 0u64..1 << 53, 1u64..9);
    let options = (
        option::of(line()),
        option::of(digest()),
        option::of(any::<i32>()),
        option::of((line(), option::of(line()))),
        option::of(any::<[u8; 32]>()),
    );
    let recipes = vec(digest(), 1..=4);
    let times = (0i64..1 << 33, 0u64..1 << 40, any::<bool>());
    (outcome(), environment(), vec(material(), 0..4), facts(), who, options, recipes, times)
        .prop_map(|(outcome, environment, materials, facts, who, options, mut recipes, times)| {
            recipes.sort_unstable();
            recipes.dedup();
            let (hints, searched, hygiene) = facts;
            let operator: OperatorId = "acme".parse().unwrap();
            Observation {
                subject: Subject {
                    repository: "registry.example:5000/demo/hello".parse().unwrap(),
                    digest: who.0,
                    platform: Platform::linux("amd64"),
                },
                index: options.1,
                tag: options.0.clone(),
                job: JobId(who.1),
                attempt: Attempt(who.4),
                lease: LeaseId(who.2),
                fence: Fence(who.3),
                operator_uri: Observation::operator_urn(&operator),
                operator,
                worker: WorkerId(who.0),
                recipe: recipes.first().copied(),
                recipes_tried: recipes,
                builder: options.3.clone().map(|(name, version)| Builder { name, version }),
                publisher: options.0,
                source: options.3.map(|(repository, commit)| Source { repository, commit }),
                epoch: options.2.map(i64::from),
                published_at: options.2.map(|_| Timestamp::from_unix(times.0).unwrap()),
                outcome,
                environment,
                materials,
                inputs_missing: 0,
                hints,
                searched,
                hygiene,
                compared: times.2.then_some(Compared {
                    level: Level::Config,
                    layers_equal: 1,
                    diff_ids_equal: 2,
                    differences: times.1,
                }),
                explanation: options.1,
                cache: if times.2 { CacheState::Warm } else { CacheState::Cold },
                durations: Durations { fetch_ms: times.1, ..Durations::default() },
                observed_at: Timestamp::from_unix(times.0).unwrap(),
                input_mac: options.1,
                r32: options.4.map(Random32),
            }
        })
}
