//! Image configurations: YAML, the attested JSON, lock files.

use rebuild::apko::{
    Behaviour, ImageConfiguration,
    config::{Lockfile, architecture},
};

/// What apko writes of a configuration is read again as the same one.
fn written(config: &ImageConfiguration) -> Vec<u8> {
    let json = config.to_apko_json(&Behaviour::newest());
    if let Ok(again) = ImageConfiguration::from_attested_json(&json) {
        assert_eq!(again.to_apko_json(&Behaviour::newest()), json);
    }
    json
}

/// A configuration as people write it.
pub fn yaml(bytes: &[u8]) {
    let loader = |_: &str| Ok(b"contents:\n  packages: [included]\n".to_vec());
    if let Ok(config) = ImageConfiguration::from_yaml(bytes, &loader) {
        written(&config);
        let _ = config.requested_packages();
        let _ = config.repositories_for_build();
        for behaviour in Behaviour::rows() {
            let _ = config.unknown_to(&behaviour);
        }
    }
}

/// A configuration as it is attested.
pub fn json(bytes: &[u8]) {
    if let Ok(config) = ImageConfiguration::from_attested_json(bytes) {
        let json = written(&config);
        assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    }
}

/// A lock file.
pub fn lockfile(bytes: &[u8]) {
    if let Ok(lockfile) = Lockfile::from_json(bytes) {
        for name in architecture::SUPPORTED {
            assert_eq!(
                lockfile.locked_packages(name).len(),
                lockfile.packages_for(architecture::apk(name)).count()
            );
        }
    }
}
