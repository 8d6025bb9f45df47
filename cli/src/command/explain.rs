//! `assay explain IMAGE`: a verdict and its grounds in words.
//!
//! Invariant: nothing is decided here. From a coordinator, what is put into words is its own
//! verdict, and it says so; from kept evidence, it is the judgement of that evidence under the given
//! policy. An explanation is shown only if a signed observation names its digest.

mod words;

use super::{
    fleet::{self, Connection},
    keep::keep,
    named, policy_file, status,
};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
    whole_file,
};
use attest::{
    Digest,
    evidence_set::EvidenceSet,
    observation::Observation,
    verdict::{self, Finding},
};
use gate::{
    EvidenceSource,
    check::find,
    collect::{Collector, SourceError, options},
};
use proto::v1;
use rebuild::compare::Explanation;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Largest explanation file that is read: what a coordinator keeps of one.
const EXPLANATION_BYTES_MAX: u64 = 3 << 20;
/// Most files of a folder that are looked at.
const FILES_MAX: usize = 4096;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// registry/repo@sha256:…
    image: String,
    /// Judges kept evidence instead of asking a coordinator: a file, a folder, https://HOST of a
    /// coordinator, or oci://HOST/REPO.
    #[arg(long = "evidence", requires = "policy", value_parser = |t: &str| t.parse::<EvidenceSource>().map_err(|e: SourceError| e.to_string()))]
    evidence: Vec<EvidenceSource>,
    /// The policy to judge the evidence by.
    #[arg(long, requires = "evidence")]
    policy: Option<PathBuf>,
    /// Leaves evidence and explanations in this folder: --evidence DIR explains them again.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// https://host:port of the coordinator's gRPC.
    #[arg(long, env = "ASSAY_COORDINATOR")]
    coordinator: Option<String>,
    /// PEM of the authority of its certificate.
    #[arg(long, env = "ASSAY_CA")]
    ca: Option<PathBuf>,
    /// This client's key.
    #[arg(long, env = "ASSAY_KEY")]
    key: Option<PathBuf>,
}

/// What was found about an image.
#[derive(Default)]
struct Found {
    explained: Vec<Explained>,
    unjudged: Vec<Unjudged>,
}

/// A platform that has no verdict yet: inconclusive.
pub struct Unjudged {
    platform: String,
    manifest: String,
    why: &'static str,
}

/// One platform with everything that is to be said about it.
pub struct Explained {
    /// The attempt that asks for more answers, while the verdict stands.
    open_again: Option<u32>,
    finding: Finding,
    set: EvidenceSet,
    explanations: BTreeMap<Digest, Explanation>,
}

/// Runs the command; the exit code is the verdict's.
pub async fn run(args: Args) -> Outcome {
    named::folder_to_make("--keep", args.keep.as_deref(), named::SHARED)?;
    let (whose, Found { explained, unjudged }) = match &args.policy {
        Some(policy) => (Whose::Own, from_evidence(&args, policy).await?),
        None => (Whose::Coordinators, from_coordinator(&args).await?),
    };
    if let Some(folder) = &args.keep {
        keep_all(folder, &explained)?;
    }
    let exits = explained.iter().map(|e| e.finding.outcome.exit_code());
    let exits = exits.chain(unjudged.iter().map(|_| 11));
    let worst = exits.max_by_key(|exit| severity(*exit)).unwrap_or(11);
    match args.format {
        Format::Json => output::json(&words::json(&args.image, whose, &explained, &unjudged)?)?,
        Format::Text => output::data(&words::text(&args.image, whose, &explained, &unjudged))?,
    }
    Ok(worst)
}

/// Whose verdict it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The coordinator's word.
    Coordinators,
    /// Judged here.
    Own,
}

/// Of several platforms the worst counts: 13, 10, 12, 14, 11, 0.
fn severity(exit: u8) -> usize {
    [0, 11, 14, 12, 10, 13].iter().position(|known| *known == exit).unwrap_or(1)
}

impl Args {
    fn connection(&self) -> Result<Connection, Failure> {
        let missing = || {
            Failure::Usage(
                "expected where the verdict is: a coordinator (--coordinator, --ca, --key), or \
                 evidence to judge (--evidence and --policy)"
                    .to_owned(),
            )
        };
        Ok(Connection {
            coordinator: self.coordinator.clone().ok_or_else(missing)?,
            ca: self.ca.clone(),
            key: self.key.clone().ok_or_else(missing)?,
        })
    }
}

async fn from_coordinator(args: &Args) -> Result<Found, Failure> {
    let (repository, digest) = status::by_digest(&args.image)?;
    let connection = args.connection()?;
    let mut client = connection.images()?;
    let mut found = Found::default();
    let Some(state) = status::get(&connection, &repository, &digest).await? else {
        status::never_submitted(&args.image);
        return Ok(found);
    };
    for platform in &state.platforms {
        let Some(finding) = finding_of(platform)? else {
            let subject = platform.subject.clone().unwrap_or_default();
            found.unjudged.push(Unjudged {
                platform: subject.platform,
                manifest: subject.manifest,
                why: "not judged yet; `assay status` shows how far it is",
            });
            continue;
        };
        let request = v1::EvidenceRequest { subject: platform.subject.clone(), explanations: true };
        let answer = connection.ask_long(client.evidence(request)).await?;
        let set = EvidenceSet::parse(&answer.evidence_set)?;
        let explanations = named_by(&set, answer.explanations)?;
        let open_again = status::is_open_again(platform).then_some(platform.attempt);
        found.explained.push(Explained { open_again, finding, set, explanations });
    }
    Ok(found)
}

/// The verdict as it was signed; the status shows the outcome's word in place of the outcome.
fn finding_of(platform: &v1::PlatformState) -> Result<Option<Finding>, Failure> {
    if platform.judgement.is_empty() {
        return Ok(None);
    }
    let mut json: serde_json::Value = serde_json::from_slice(&platform.judgement)?;
    if let Some(map) = json.as_object_mut()
        && let Some(detail) = map.remove("outcome_detail")
    {
        map.insert("outcome".to_owned(), detail);
    }
    Ok(Some(serde_json::from_value(json)?))
}

async fn from_evidence(args: &Args, policy: &Path) -> Result<Found, Failure> {
    let reference = named::image(&args.image)?;
    named::evidence(&args.evidence)?;
    let policy = policy_file::read(policy)?;
    let options =
        options(&policy, oci::registry::Credentials::default(), oci::registry::Timing::default());
    let collector = Collector::open(&args.evidence, &options)?;
    let check = gate::Check {
        reference: &reference,
        policy: &policy,
        evidence: &args.evidence,
        options: &options,
        now: fleet::now()?,
        offline: args.evidence.iter().all(|source| matches!(source, EvidenceSource::Path(_))),
    };
    let found = find(&check, &collector).await?;
    let kept = explanation_files(&args.evidence)?;
    let (mut explained, mut unjudged) = (Vec::new(), Vec::new());
    for (wanted, gathered) in found.asked.wanted.iter().zip(found.gathered) {
        let Some(set) = gathered?.set else {
            unjudged.push(Unjudged {
                platform: wanted.subject.platform.to_string(),
                manifest: wanted.subject.digest.to_string(),
                why: "there is no evidence about it",
            });
            continue;
        };
        let finding = Finding::clone(&verdict::judge(&policy, &set));
        let explanations = named_by(&set, kept.clone())?;
        explained.push(Explained { open_again: None, finding, set, explanations });
    }
    Ok(Found { explained, unjudged })
}

/// The files of folders of evidence that are explanations.
fn explanation_files(sources: &[EvidenceSource]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for source in sources {
        let EvidenceSource::Path(folder) = source else { continue };
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)?.take(FILES_MAX) {
            let entry = entry?;
            let name = entry.file_name();
            let named = name.to_str().is_some_and(|n| n.starts_with("explanation-"));
            let about = entry.metadata()?;
            if named && about.is_file() && about.len() <= EXPLANATION_BYTES_MAX {
                found.push(std::fs::read(entry.path())?);
            }
        }
    }
    Ok(found)
}

/// The explanations whose digest an observation of the set names.
fn named_by(
    set: &EvidenceSet,
    bytes: Vec<Vec<u8>>,
) -> Result<BTreeMap<Digest, Explanation>, Failure> {
    let read = |filed: &attest::evidence_set::Filed| Observation::read(&filed.envelope).ok();
    let named: BTreeSet<Digest> =
        set.observations.iter().filter_map(read).filter_map(|o| o.explanation).collect();
    let mut found = BTreeMap::new();
    for bytes in bytes {
        let digest = Digest::of(&bytes);
        if named.contains(&digest) {
            found.insert(digest, Explanation::from_bytes(&bytes)?);
        }
    }
    Ok(found)
}

fn keep_all(folder: &Path, explained: &[Explained]) -> Result<(), Failure> {
    let sets: Vec<EvidenceSet> = explained.iter().map(|e| e.set.clone()).collect();
    keep(folder, &sets)?;
    for (digest, explanation) in explained.iter().flat_map(|e| &e.explanations) {
        let name = format!("explanation-{}.json", digest.hex());
        whole_file::write(&folder.join(name), &explanation.to_bytes()?)?;
    }
    Ok(())
}
