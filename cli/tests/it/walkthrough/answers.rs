//! What the coordinator answers, to be compared byte for byte.

use crate::stage::{IMAGES, Stage, fixtures};
use proto::v1::{self, image_service_client::ImageServiceClient};
use worker::daemon::{connect, identity::Identity};

/// Get, History and Evidence of every image.
#[derive(Debug, PartialEq)]
pub struct Answers {
    states: Vec<v1::ImageState>,
    histories: Vec<v1::HistoryResponse>,
    evidence: Vec<Vec<u8>>,
}

/// Asks for all of it.
pub async fn all(stage: &Stage, port: u16, host: &str) -> Answers {
    let home = stage.path("srv/assay");
    let ca = std::fs::read_to_string(home.join("ca.pem")).unwrap();
    let admin = Identity::load(&home.join("admin.key")).unwrap();
    let address = format!("https://localhost:{port}");
    let channel = connect::channel(&address, Some(&ca), &admin).unwrap();
    let mut client =
        ImageServiceClient::new(channel).max_decoding_message_size(proto::MESSAGE_BYTES_MAX);
    let cases = std::fs::read(fixtures().join("cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&cases).unwrap();
    let mut found = Answers { states: Vec::new(), histories: Vec::new(), evidence: Vec::new() };
    for name in IMAGES {
        let repository = format!("{host}/demo/{name}");
        let digest = cases[name]["index"].as_str().unwrap().to_owned();
        let request = v1::GetImageRequest { repository: repository.clone(), digest };
        let state = client.get(request).await.unwrap().into_inner();
        for platform in &state.platforms {
            let request =
                v1::EvidenceRequest { subject: platform.subject.clone(), explanations: false };
            let answer = client.evidence(request).await.unwrap().into_inner();
            assert!(answer.evidence_set.len() > 1000, "{name}: hardly any evidence");
            found.evidence.push(answer.evidence_set);
        }
        found.states.push(state);
        let request = v1::HistoryRequest { repository, rows_max: 1000, ..Default::default() };
        let history = client.history(request).await.unwrap().into_inner();
        assert!(!history.rows.is_empty(), "{name} has no history");
        found.histories.push(history);
    }
    found
}
