//! What a job takes, as far as the published manifest tells before anybody has built it.
//!
//! The queue offers a job only to workers that have as much (`queue::model`, classes by powers of
//! two). It is an estimate, and decides only who is asked: a worker's own limit is what is enforced.
//! Invariant: pure; a manifest that claims absurd sizes asks for [`MOST_MIB`], not for more than any
//! machine has.

use attest::image_manifest::ImageManifest;

/// A job of an image without files: the program, an index of 100,000 packages (20 MB compressed,
/// about 100 MiB as records), buffers of four packages and two layers (docs/PERFORMANCE.md).
const BASE_MIB: u64 = 192;
/// An entry is kept four times (of its package, of what is built, of both sides of the comparison)
/// with about 320 bytes each; a file is about 10 KiB compressed (24,000 files in 600 MiB, packed to
/// 250): an eighth of the layers' compressed size.
const LAYERS_DIVISOR: u64 = 8;
/// The most that is asked for: 16 GiB.
const MOST_MIB: u64 = 16 << 10;

/// MiB of memory that a rebuild of the image with this manifest takes.
pub fn memory_mib(manifest: &[u8]) -> u32 {
    let layers = ImageManifest::parse(manifest).map(|m| m.layers).unwrap_or_default();
    let bytes = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    let mib = BASE_MIB.saturating_add((bytes >> 20) / LAYERS_DIVISOR).min(MOST_MIB);
    u32::try_from(mib).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(sizes: &[u64]) -> Vec<u8> {
        let descriptor = |size: u64| {
            let digest = format!("sha256:{}", "0".repeat(64));
            serde_json::json!({"mediaType": "application/x", "digest": digest, "size": size})
        };
        let layers: Vec<_> = sizes.iter().map(|size| descriptor(*size)).collect();
        let manifest =
            serde_json::json!({"schemaVersion": 2, "config": descriptor(9), "layers": layers});
        serde_json::to_vec(&manifest).unwrap()
    }

    #[test]
    fn memory_grows_with_the_layers_and_has_bounds() {
        const GIB: u64 = 1 << 30;
        for (sizes, mib) in [
            (vec![], 192),
            (vec![5 << 20], 192),
            (vec![GIB / 2, GIB / 2], 192 + 128),
            (vec![10 * GIB], 192 + 1280),
            (vec![1 << 40; 9], 16 << 10),
        ] {
            assert_eq!(memory_mib(&manifest(&sizes)), mib, "{sizes:?}");
        }
        assert_eq!(memory_mib(b"not a manifest"), 192);
    }
}
