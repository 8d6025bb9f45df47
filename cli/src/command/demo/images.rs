//! The published images of the demonstration, and what is known to be true of them.

/// One published image.
#[derive(Debug, Clone, Copy)]
pub struct DemoImage {
    /// Its name among the fixtures: `demo/<name>:latest`.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// What a fleet must find. Used only to end with the right exit code.
    pub expect: &'static str,
    /// The exit code of a strict gate.
    pub exit: u8,
}

/// Tampered first: the dishonest operator's claim is contradicted, and the job opened again.
pub const IMAGES: [DemoImage; 4] = [
    DemoImage {
        name: "tampered",
        what: "one byte of a program was changed before the publisher signed",
        expect: "diverged",
        exit: 10,
    },
    DemoImage {
        name: "hello",
        what: "an image as apko built it, two platforms",
        expect: "reproduced",
        exit: 0,
    },
    DemoImage {
        name: "unknown-field",
        what: "its recipe has a field that nobody knows",
        expect: "not-rebuildable",
        exit: 14,
    },
    DemoImage {
        name: "wrong-signer",
        what: "its recipe is signed by somebody whom no policy names",
        expect: "untrusted",
        exit: 13,
    },
];
