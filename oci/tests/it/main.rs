//! Tests of `oci` from outside: published layouts, hostile layouts, registries with faults, real
//! registries.

mod access;
mod addresses;
mod faults;
mod fetching;
mod hostile_layout;
mod layout_writer;
#[path = "../../../tests/src/peer.rs"]
mod peer;
mod peers;
mod published;
mod push;
mod reading;
#[path = "../../../tests/src/registry.rs"]
mod registry;
mod tags;

use oci::{Credentials, ImageReference, ImageSource, NetworkPolicy, SourceOptions, Timing};
use std::time::Duration;

/// Short waits between attempts, so that faults show at once; no credentials.
pub fn options(network: NetworkPolicy) -> SourceOptions {
    let timing = Timing {
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(20),
        answer: Duration::from_secs(30),
        blob: Duration::from_secs(30),
        attempts: 3,
        backoff: Duration::from_millis(20),
        wait_max: Duration::from_secs(2),
    };
    SourceOptions { network, credentials: Credentials::Anonymous, timing }
}

/// The same with timeouts short enough to wait for.
pub fn hasty(network: NetworkPolicy) -> SourceOptions {
    let mut options = options(network);
    options.timing.idle = Duration::from_secs(1);
    options.timing.answer = Duration::from_secs(3);
    options.timing.blob = Duration::from_secs(3);
    options
}

/// A reference into a registry and a source for it.
pub fn at(registry: &registry::Registry, rest: &str) -> (ImageSource, ImageReference) {
    let reference: ImageReference = format!("{}/{rest}", registry.host()).parse().unwrap();
    let source = ImageSource::open(&reference, &options(registry.policy())).unwrap();
    (source, reference)
}

/// A registry with the published images.
pub async fn published(options: registry::RegistryOptions) -> registry::Registry {
    let registry = registry::Registry::start(options).await;
    registry.load_layout(published::layout());
    registry
}
