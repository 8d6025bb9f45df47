//! Image configuration and manifest of one platform.
//!
//! Invariant: both follow from the configuration, the creation time and the layers' digests; the
//! manifest exists only if every layer was compressed.

use super::{
    annotations::{TITLE, VENDOR, annotations},
    words::split_words,
};
use crate::{
    apko::{
        behaviour::{Behaviour, Capability},
        config::{ImageConfiguration, architecture},
        error::AssembleError,
        layers::{Blob, WrittenLayer},
    },
    go::{json::Object, time},
};
use attest::Digest;
use std::collections::BTreeSet;

const AUTHOR: &str = "github.com/chainguard-dev/apko";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What the documents of one platform are made from.
pub struct ImageParts<'a> {
    /// The finished configuration of the platform.
    pub config: &'a ImageConfiguration,
    /// Architecture with variant: `amd64`, `arm/v7`.
    pub architecture: &'a str,
    /// How this version of apko does it.
    pub behaviour: &'a Behaviour,
    /// Seconds since 1970.
    pub created: i64,
    /// The layers, top last.
    pub layers: &'a [WrittenLayer],
}

impl ImageParts<'_> {
    fn annotations(&self) -> Result<std::collections::BTreeMap<String, String>, AssembleError> {
        // A locked configuration has a vcs-url only if somebody put it there on purpose.
        let vcs = self.behaviour.has(Capability::Locked)
            || self.behaviour.has(Capability::VcsPerArchitecture);
        Ok(annotations(self.config, self.behaviour, self.created, vcs)?)
    }

    /// The comment of every history entry.
    fn comment(&self) -> String {
        let annotations = &self.config.annotations;
        match (annotations.get(TITLE), annotations.get(VENDOR)) {
            (Some(title), Some(vendor)) if self.behaviour.has(Capability::TitleComment) => {
                format!("{title} by {vendor}")
            }
            _ if self.layers.len() == 1 => "This is an apko single-layer image".into(),
            _ => String::new(),
        }
    }

    /// The default variables and the configured ones, as sorted `NAME=value`.
    fn environment(&self) -> Vec<String> {
        let path = if self.behaviour.has(Capability::PathOrder) {
            "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"
        } else {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        };
        let defaults = [("PATH", path), ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")];
        let mut variables = self.config.environment.clone();
        for (name, value) in defaults {
            variables.entry(name.into()).or_insert_with(|| value.into());
        }
        let mut texts: Vec<String> =
            variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        texts.sort_unstable();
        texts
    }

    fn entrypoint(&self) -> Result<Vec<String>, AssembleError> {
        let entrypoint = &self.config.entrypoint;
        if !entrypoint.shell_fragment.is_empty() {
            return Ok(["/bin/sh", "-c", &entrypoint.shell_fragment].map(String::from).to_vec());
        }
        words("entrypoint.command", &entrypoint.command)
    }
}

fn words(field: &'static str, text: &str) -> Result<Vec<String>, AssembleError> {
    split_words(text).map_err(|error| AssembleError::step(field, error.to_string()))
}

/// The image configuration.
pub fn config(image: &ImageParts<'_>) -> Result<Vec<u8>, AssembleError> {
    let created = time::format(image.created)?;
    let annotations = image.annotations()?;
    let comment = image.comment();
    let (architecture, variant) = architecture::parts(image.architecture);
    let entrypoint = image.entrypoint()?;
    let cmd = words("cmd", &image.config.cmd)?;
    let volumes: BTreeSet<&String> = image.config.volumes.iter().collect();
    let mut out = Vec::new();
    let mut json = Object::new(&mut out);
    json.string("architecture", architecture);
    json.string("author", AUTHOR);
    json.string("created", &created);
    json.array("history", |array| {
        for _ in image.layers {
            array.object(|json| {
                json.string("author", "apko");
                json.string("created", &created);
                json.string("created_by", "apko");
                json.string_omitempty("comment", &comment);
            });
        }
    });
    json.string("os", "linux");
    json.object("rootfs", |json| {
        json.string("type", "layers");
        json.array("diff_ids", |array| {
            for layer in image.layers {
                array.string(layer.diff_id.to_string());
            }
        });
    });
    json.object("config", |json| {
        json.array_of_strings_omitempty("Cmd", &cmd);
        json.array_of_strings_omitempty("Entrypoint", &entrypoint);
        json.array_of_strings("Env", &image.environment());
        if image.behaviour.has(Capability::Labels) {
            json.map_of_strings_omitempty("Labels", &annotations);
        }
        json.string_omitempty("User", &image.config.accounts.run_as);
        if !volumes.is_empty() && !image.behaviour.has(Capability::VolumesLost) {
            json.object("Volumes", |json| {
                for volume in volumes {
                    json.object(volume, |_| {});
                }
            });
        }
        json.string_omitempty("WorkingDir", &image.config.work_dir);
        json.string_omitempty("StopSignal", &image.config.stop_signal);
    });
    if let Some(variant) = variant {
        json.string("variant", variant);
    }
    json.end();
    Ok(out)
}

pub(super) fn descriptor(json: &mut Object<'_>, media_type: &str, size: u64, digest: Digest) {
    json.string("mediaType", media_type);
    json.integer("size", size);
    json.string("digest", digest.to_string());
}

/// The manifest, for the bytes of the image configuration. None while a layer has no blob.
pub fn manifest(
    image: &ImageParts<'_>,
    config_json: &[u8],
) -> Result<Option<Vec<u8>>, AssembleError> {
    let blobs: Option<Vec<Blob>> = image.layers.iter().map(|layer| layer.blob).collect();
    let Some(blobs) = blobs else { return Ok(None) };
    let annotations = image.annotations()?;
    let mut out = Vec::new();
    let mut json = Object::new(&mut out);
    json.integer("schemaVersion", 2);
    json.string("mediaType", MANIFEST_TYPE);
    json.object("config", |json| {
        descriptor(json, CONFIG_TYPE, config_json.len() as u64, Digest::of(config_json));
    });
    json.array("layers", |array| {
        for blob in &blobs {
            array.object(|json| descriptor(json, LAYER_TYPE, blob.size, blob.digest));
        }
    });
    json.map_of_strings_omitempty("annotations", &annotations);
    json.end();
    Ok(Some(out))
}
