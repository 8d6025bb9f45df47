//! Rows that come out of signed observations: themselves, their inputs, their differences.
//!
//! Invariant: what an observation says is shown as its own word, also where it does not count. An
//! explanation is shown only if it is the one whose digest was signed.

use super::{Reading, Row, Table, seconds};
use crate::{
    daemon::evidence::{SubmittedImage, about_image},
    journal::Kind,
    store::{HistoryEvent, HistoryRow, StoreError},
};
use attest::{
    dsse::Envelope,
    id::{JobId, JournalPosition, ObservationId},
    observation::{CacheState, Observation},
    time::Timestamp,
    verdict::Finding,
};
use serde_json::Value;
use std::sync::Arc;

/// Differences of one explanation that become rows; explanations hold 1,000.
const DIFFERENCES_MAX: usize = 10_000;
/// Submissions of one image that are looked through for its tag.
const SUBMISSIONS_MAX: usize = 1000;
/// Images whose submissions are remembered while a page is made.
const SUBMITTED_MAX: usize = 100;

/// The observation as signed; none if the envelope cannot be read.
fn read(reading: &Reading<'_>, of: &HistoryRow) -> Result<Option<Arc<Observation>>, StoreError> {
    Ok(envelope(reading, of)?.and_then(|envelope| Observation::read(&envelope).ok()))
}

/// When its worker's clock says that it was made.
pub(super) fn time(
    reading: &Reading<'_>,
    of: &HistoryRow,
) -> Result<Option<Timestamp>, StoreError> {
    Ok(envelope(reading, of)?.and_then(|envelope| Observation::time_in(&envelope)))
}

fn envelope(reading: &Reading<'_>, of: &HistoryRow) -> Result<Option<Envelope>, StoreError> {
    // A row lies where its envelope lies: the index need not be asked for each.
    let stored = reading.core.store.record(of.position)?;
    let stored = stored.filter(|stored| stored.kind == Kind::OBSERVATION);
    Ok(stored.and_then(|stored| Envelope::parse(&stored.body).ok()))
}

pub(super) fn row(reading: &mut Reading<'_>, of: &HistoryRow) -> Result<Vec<Row>, StoreError> {
    let HistoryEvent::Observation {
        observation: id,
        operator,
        worker,
        role,
        outcome,
        class,
        manifest,
        duration_ms,
        ..
    } = &of.event
    else {
        return Ok(Vec::new());
    };
    let mut row = Row::new(Table::Observations);
    row.text("obs_id", id);
    row.set("position", of.position.0);
    row.text("recorded_at", of.time);
    row.text("job", of.job);
    row.set("attempt", of.attempt.0);
    reading.subject(&mut row, &of.job)?;
    row.text("operator", operator);
    row.text("worker", worker);
    row.set("outcome", outcome.as_str());
    row.set("failure_class", class.as_str());
    row.maybe("out_manifest", *manifest);
    row.set("duration_s", seconds(*duration_ms));
    row.set("role", role.as_str());
    row.maybe("verdict_effect", effect(reading, &of.job, id)?);
    if let Some(observation) = read(reading, of)? {
        let tag = tag(reading, &observation, of.position)?;
        row.maybe("tag_when_observed", tag);
        signed(&mut row, &observation);
        environment(&mut row, &observation);
    }
    Ok(vec![row])
}

fn signed(row: &mut Row, observation: &Observation) {
    row.text("image_repository", &observation.subject.repository);
    row.text("manifest_digest", observation.subject.digest);
    row.text("platform", &observation.subject.platform);
    row.maybe("index_digest", observation.index);
    row.maybe("publisher", observation.publisher.as_ref());
    if let Some(builder) = &observation.builder {
        row.set("builder", builder.name.as_str());
        row.maybe("builder_version", builder.version.as_ref());
    }
    row.maybe("recipe_digest", observation.recipe);
    if let Some(source) = &observation.source {
        row.set("source_repository", source.repository.as_str());
        row.maybe("source_commit", source.commit.as_ref());
    }
    row.set("epoch", observation.epoch);
    row.maybe("published_at", observation.published_at);
    row.text("observed_at", observation.observed_at);
    row.set("cpu_s", seconds(observation.durations.cpu_ms));
    row.set("input_count", observation.materials.len());
    row.set("inputs_missing", observation.inputs_missing);
    row.set("cache", if observation.cache == CacheState::Warm { "warm" } else { "cold" });
    row.maybe("explanation_digest", observation.explanation);
    if let Some(output) = observation.output() {
        row.text("out_config", output.config);
        row.set("n_layers", output.layers.len());
        row.set("bytes", output.layers.iter().map(|layer| layer.size).sum::<u64>());
    }
    if let Some(compared) = &observation.compared {
        row.set("layers_equal", compared.layers_equal);
        row.set("diff_ids_equal", compared.diff_ids_equal);
        row.set("level", serde_json::to_value(compared.level).unwrap_or_default());
        row.set("differences", compared.differences);
    }
}

fn environment(row: &mut Row, observation: &Observation) {
    let of = &observation.environment;
    let (name, version) = of.rebuilder.rsplit_once(' ').unwrap_or((&of.rebuilder, ""));
    for (column, value) in [
        ("rebuilder", name),
        ("rebuilder_version", version),
        ("env_cpu", &of.cpu),
        ("env_cpu_vendor", &of.cpu_vendor),
        ("env_kernel", &of.kernel),
        ("env_fs", &of.filesystem),
        ("env_tz", &of.timezone),
        ("env_locale", &of.locale),
        ("env_umask", &of.umask),
        ("env_architecture", &of.architecture),
        ("worker_version", &of.worker_version),
    ] {
        row.set(column, value);
    }
    row.set("env_cpus", of.cpus);
}

/// The newest tag under which the image had been submitted before this position.
fn tag(
    reading: &mut Reading<'_>,
    observation: &Observation,
    before: JournalPosition,
) -> Result<Option<String>, StoreError> {
    let root = observation.index.unwrap_or(observation.subject.digest);
    let about = about_image(&observation.subject.repository, &root);
    if !reading.submissions.contains_key(&about) {
        let (start, store) = (JournalPosition(0), &reading.core.store);
        let found = store.records_about(Kind::EVIDENCE, &about, start, SUBMISSIONS_MAX)?;
        let tag = |body: &[u8]| serde_json::from_slice::<SubmittedImage>(body).ok()?.tag;
        let found = found.iter().map(|stored| (stored.position, tag(&stored.body))).collect();
        if reading.submissions.len() >= SUBMITTED_MAX {
            reading.submissions.clear();
        }
        reading.submissions.insert(about, found);
    }
    let known = reading.submissions.get(&about).map_or(&[][..], Vec::as_slice);
    let earlier = known.iter().take_while(|(position, _)| *position < before);
    Ok(earlier.filter_map(|(_, tag)| tag.clone()).last())
}

/// What an observation is to the newest verdict of its job.
fn effect(
    reading: &mut Reading<'_>,
    job: &JobId,
    id: &ObservationId,
) -> Result<Option<&'static str>, StoreError> {
    if !reading.findings.contains_key(job) {
        let newest = reading.core.store.newest_about(Kind::VERDICT, &job.0)?;
        let signers = &reading.core.signers;
        let finding = newest.and_then(|stored| Some(signers.verdict(&stored.body).ok()?.finding));
        if reading.findings.len() >= super::REMEMBERED_MAX {
            reading.findings.clear();
        }
        reading.findings.insert(*job, finding);
    }
    let finding = reading.findings.get(job).and_then(Option::as_ref);
    Ok(finding.map(|finding| effect_in(finding, id)))
}

fn effect_in(finding: &Finding, id: &ObservationId) -> &'static str {
    let dissent = finding.dissent.iter().find(|d| d.observations.contains(id));
    match dissent {
        Some(dissent) if dissent.resolved => "dissent-resolved",
        Some(_) => "dissent",
        None if finding.equivocations.iter().any(|e| e.observations.contains(id)) => "equivocation",
        None if finding.counted.iter().any(|c| c.observation == *id) => "counted",
        None if finding.failures.iter().any(|f| f.observation == *id) => "failure",
        None if finding.not_counted.iter().any(|n| n.observation == *id) => "not-counted",
        None => "none",
    }
}

pub(super) fn materials(
    reading: &mut Reading<'_>,
    of: &HistoryRow,
) -> Result<Vec<Row>, StoreError> {
    let HistoryEvent::Observation { observation: id, .. } = &of.event else {
        return Ok(Vec::new());
    };
    let Some(observation) = read(reading, of)? else { return Ok(Vec::new()) };
    let rows = observation.materials.iter().enumerate().map(|(n, material)| {
        let mut row = Row::new(Table::Materials);
        row.text("obs_id", id);
        row.set("position", of.position.0);
        row.set("n", n);
        row.set("uri", material.uri.as_str());
        row.text("sha256", material.digest);
        row.maybe("from", material.from.as_ref());
        row.set("verified_by", material.verified_by.as_str());
        row
    });
    Ok(rows.collect())
}

/// Those of the inputs that are packages.
pub(super) fn packages(reading: &mut Reading<'_>, of: &HistoryRow) -> Result<Vec<Row>, StoreError> {
    let HistoryEvent::Observation { observation: id, .. } = &of.event else {
        return Ok(Vec::new());
    };
    let Some(observation) = read(reading, of)? else { return Ok(Vec::new()) };
    let found = observation.materials.iter().enumerate();
    let found =
        found.filter_map(|(n, material)| Some((n, material, PackageFile::of(&material.uri)?)));
    let rows = found.map(|(n, material, file)| {
        let mut row = Row::new(Table::Packages);
        row.text("obs_id", id);
        row.set("position", of.position.0);
        row.set("n", n);
        row.text("image_repository", &observation.subject.repository);
        row.text("manifest_digest", observation.subject.digest);
        row.text("platform", &observation.subject.platform);
        row.set("name", file.name);
        row.set("version", file.version);
        row.set("architecture", file.architecture);
        row.set("package_repository", file.repository);
        row.text("sha256", material.digest);
        row.maybe("from", material.from.as_ref());
        row.set("verified_by", material.verified_by.as_str());
        row
    });
    Ok(rows.collect())
}

/// What the URI of a package says: `<repository>/<architecture>/<name>-<version>.apk`. A worker puts
/// name and version of the recipe into it.
#[derive(Debug, PartialEq, Eq)]
struct PackageFile<'a> {
    repository: &'a str,
    architecture: &'a str,
    name: &'a str,
    version: &'a str,
}

impl<'a> PackageFile<'a> {
    fn of(uri: &'a str) -> Option<Self> {
        let (folder, file) = uri.rsplit_once('/')?;
        let (repository, architecture) = folder.rsplit_once('/')?;
        let label = file.strip_suffix(".apk")?;
        // A version has no dash but the one of its release: `1.37.0-r0`.
        let (rest, last) = label.rsplit_once('-')?;
        let release = last.strip_prefix('r').is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let name = if release { rest.rsplit_once('-')?.0 } else { rest };
        let version = label.get(name.len() + 1..)?;
        let named = !repository.is_empty() && !architecture.is_empty() && !name.is_empty();
        named.then_some(Self { repository, architecture, name, version })
    }
}

pub(super) fn differences(
    reading: &mut Reading<'_>,
    of: &HistoryRow,
) -> Result<Vec<Row>, StoreError> {
    let HistoryEvent::Observation { observation: id, .. } = &of.event else {
        return Ok(Vec::new());
    };
    let wanted = read(reading, of)?.and_then(|observation| observation.explanation);
    let Some(wanted) = wanted else { return Ok(Vec::new()) };
    let stored = reading.core.store.newest_about(Kind::EVIDENCE, &wanted)?;
    let right = stored.filter(|stored| attest::Digest::of(&stored.body) == wanted);
    let json = right.and_then(|stored| serde_json::from_slice::<Value>(&stored.body).ok());
    let Some(json) = json else { return Ok(Vec::new()) };
    let events = json.get("events").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = events.iter().take(DIFFERENCES_MAX).enumerate().map(|(n, event)| {
        let mut row = Row::new(Table::Diffs);
        row.text("obs_id", id);
        row.set("position", of.position.0);
        row.set("n", n);
        for (column, key) in [
            ("scope", "scope"),
            ("layer", "layer"),
            ("path", "path"),
            ("kind", "kind"),
            ("before", "a"),
            ("after", "b"),
            ("security", "security"),
        ] {
            row.set(column, event.get(key).cloned().unwrap_or_default());
        }
        row.set("detector", json.get("detector").cloned().unwrap_or_default());
        row.set("causes_version", json.get("causes_version").cloned().unwrap_or_default());
        let causes = event.get("cause").and_then(Value::as_array).cloned().unwrap_or_default();
        let codes: Vec<&str> =
            causes.iter().filter_map(|cause| cause.get("code")?.as_str()).collect();
        row.maybe("cause", codes.first());
        row.maybe("causes", (!codes.is_empty()).then(|| codes.join(" ")));
        row
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::PackageFile;

    #[test]
    fn packages_by_their_uris() {
        let of = |label: &str| {
            let uri = format!("https://packages.example/os/x86_64/{label}.apk");
            let file = PackageFile::of(&uri)?;
            assert_eq!(
                (file.repository, file.architecture),
                ("https://packages.example/os", "x86_64")
            );
            Some((file.name.to_owned(), file.version.to_owned()))
        };
        for (label, name, version) in [
            ("busybox-1.37.0-r0", "busybox", "1.37.0-r0"),
            ("ca-certificates-bundle-20260413-r1", "ca-certificates-bundle", "20260413-r1"),
            ("lib-r2-1.0_rc1-r12", "lib-r2", "1.0_rc1-r12"),
            ("a-1.0", "a", "1.0"),
        ] {
            assert_eq!(of(label), Some((name.to_owned(), version.to_owned())), "{label}");
        }
        for other in ["busybox", "-r0", "-1-r0"] {
            assert_eq!(of(other), None, "{other}");
        }
        for other in [
            "https://packages.example/os/x86_64/APKINDEX.tar.gz",
            "https://packages.example/jwks.json#key.rsa.pub",
            "a-1-r0.apk",
            "",
        ] {
            assert_eq!(PackageFile::of(other), None, "{other}");
        }
    }
}
