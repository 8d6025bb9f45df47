//! A registry on loopback that has as many published images as are asked for, each with evidence.
//!
//! `load/N:latest` is the image number N: small, distinct, with a signed apko configuration as a
//! legacy attestation. Invariant: the same number is the same image for as long as this runs.

use attest::{
    Digest,
    dsse::{Envelope, IN_TOTO},
    key::SigningKey,
    statement::{Statement, StatementSubject},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use oci::{Descriptor, media};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpListener;

/// The part of a policy that is about publishers and registries.
pub struct Trust {
    /// The tables, as text.
    pub text: String,
    /// The file `publisher.pub`.
    pub publisher: String,
    /// Hints that count.
    pub hints: &'static str,
}

/// One image: its documents by digest, its tags.
struct Pressed {
    documents: HashMap<Digest, (String, Vec<u8>)>,
    tags: BTreeMap<String, Digest>,
}

/// The registry.
pub struct Press {
    /// Host and port.
    pub host: String,
    /// The publisher's key.
    pub key: SigningKey,
    images: Mutex<HashMap<u64, Arc<Pressed>>>,
}

impl Press {
    /// Starts listening.
    pub async fn start() -> Result<Arc<Self>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(crate::shown)?;
        let host = listener.local_addr().map_err(crate::shown)?.to_string();
        let press = Arc::new(Self {
            host,
            key: SigningKey::generate().map_err(crate::shown)?,
            images: Mutex::default(),
        });
        let app = Router::new()
            .route("/v2/", get(|| async { "{}" }))
            .route("/v2/load/{n}/manifests/{reference}", get(document))
            .route("/v2/load/{n}/blobs/{reference}", get(document))
            .route("/v2/load/{n}/referrers/{digest}", get(referrers))
            .with_state(Arc::clone(&press));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(press)
    }

    /// What a policy says about it.
    pub fn trust(&self) -> Trust {
        let host = &self.host;
        let text = format!(
            "[[publisher]]\nrepositories = [\"{host}/load/*\"]\nkey = \"publisher.pub\"\n\
             transparency = \"none\"\n\n[[registry]]\nhost = \"{host}\"\nplain_http = true\n\n"
        );
        Trust { text, publisher: self.key.public().to_pem(), hints: "[]" }
    }

    /// The reference of an image.
    pub fn image(&self, n: u64) -> String {
        format!("{}/load/{n}:latest", self.host)
    }

    /// The manifest of an image, as a faithful rebuild has it.
    pub fn manifest(&self, n: u64) -> Option<Vec<u8>> {
        let image = self.pressed(n).ok()?;
        let digest = image.tags.get("latest")?;
        image.documents.get(digest).map(|(_, bytes)| bytes.clone())
    }

    fn pressed(&self, n: u64) -> Result<Arc<Pressed>, StatusCode> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = images.get(&n) {
            return Ok(Arc::clone(known));
        }
        let made = press(n, &self.key).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        let made = Arc::new(made);
        images.insert(n, Arc::clone(&made));
        Ok(made)
    }
}

fn press(n: u64, key: &SigningKey) -> Result<Pressed, attest::dsse::EnvelopeError> {
    let (mut documents, mut tags) = (HashMap::new(), BTreeMap::new());
    let mut keep = |media_type: &str, bytes: Vec<u8>| {
        let descriptor = Descriptor::of(media_type, &bytes);
        documents.insert(descriptor.digest, (media_type.to_owned(), bytes));
        descriptor
    };
    let layer = keep("application/vnd.oci.image.layer.v1.tar+gzip", format!("layer {n}").into());
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"n": n.to_string()}},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&n.to_le_bytes())]},
    });
    let config = keep(media::IMAGE_CONFIG, config.to_string().into());
    let manifest = |config: &Descriptor, layer: &Descriptor| {
        let (config, layers) = (config.to_json(), [layer.to_json()]);
        json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config,
               "layers": layers})
        .to_string()
        .into_bytes()
    };
    let image = keep(media::OCI_MANIFEST, manifest(&config, &layer));
    tags.insert("latest".to_owned(), image.digest);
    let predicate = json!({"archs": ["amd64"], "contents": {"packages": ["hello=1"]}});
    let about = vec![StatementSubject::new("load", &image.digest)];
    let statement = Statement::new(about, "https://apko.dev/image-configuration", predicate);
    let payload = serde_json::to_vec(&statement).unwrap_or_default();
    let envelope = keep(media::DSSE, Envelope::sign(key, IN_TOTO, payload)?.to_json());
    let holder = keep(media::OCI_MANIFEST, manifest(&config, &envelope));
    tags.insert(oci::Tag::legacy_attestations_of(&image.digest).to_string(), holder.digest);
    Ok(Pressed { documents, tags })
}

async fn document(
    State(press): State<Arc<Press>>,
    Path((n, reference)): Path<(u64, String)>,
) -> Result<Response, StatusCode> {
    let image = press.pressed(n)?;
    let digest = match image.tags.get(&reference) {
        Some(digest) => *digest,
        None => reference.parse().map_err(|_| StatusCode::NOT_FOUND)?,
    };
    let (media_type, bytes) = image.documents.get(&digest).ok_or(StatusCode::NOT_FOUND)?;
    let name = header::HeaderName::from_static("docker-content-digest");
    let headers = [(header::CONTENT_TYPE, media_type.clone()), (name, digest.to_string())];
    Ok((headers, bytes.clone()).into_response())
}

async fn referrers(
    State(press): State<Arc<Press>>,
    Path((n, _)): Path<(u64, String)>,
) -> Result<Response, StatusCode> {
    press.pressed(n)?;
    let none = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []});
    Ok(([(header::CONTENT_TYPE, media::OCI_INDEX)], none.to_string()).into_response())
}
