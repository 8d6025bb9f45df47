//! From the TOML text to the rules of a policy: quorum, log, gate, overrides, waivers.
//!
//! Invariant: a quorum names operators that the policy knows, and k is 1 to n; a mode of `delay`
//! has its date.

use super::{
    DIVERSITY, FullScan, GatePolicy, Inclusion, LogPolicy, Mode, Operator, Override, PolicyError,
    Quorum, RepositoryPattern, UnknownRule, Waiver, WaiverTarget,
    gate::WAIVABLE,
    reader::Reader,
    wire::{self, Text},
};
use crate::{Digest, Level, id::OperatorId, recipe::Tier, time::Timestamp};
use toml::Spanned;

/// Longest `max_age`: ten years. A verdict that is older says nothing about today.
const MAX_AGE_SECONDS_MAX: u64 = 10 * 366 * 86_400;

pub(super) fn quorum(
    reader: &Reader<'_>,
    wire: Spanned<wire::WireQuorum>,
    known: &[Operator],
) -> Result<Quorum, PolicyError> {
    let wire = wire.into_inner();
    let mut operators: Vec<OperatorId> = Vec::new();
    for text in reader.some(&wire.operators, "quorum", "operators with an entry")? {
        const KEY: &str = "quorum.operators";
        let name: OperatorId = reader.value(text, KEY, "the name of an [[operator]]")?;
        if !known.iter().any(|operator| operator.name == name) {
            let names: Vec<&str> = known.iter().map(|o| o.name.as_str()).collect();
            let expected = format!("the name of an [[operator]] ({})", names.join(", "));
            return Err(reader.wrong(text, KEY, expected));
        }
        if operators.contains(&name) {
            return Err(PolicyError::Duplicate {
                line: reader.line(&text.span()),
                key: KEY,
                expected: "each operator once",
                found: name.to_string(),
            });
        }
        operators.push(name);
    }
    operators.sort_unstable();
    let reproduced = *wire.reproduced.get_ref();
    if reproduced == 0 || reproduced as usize > operators.len() {
        return Err(PolicyError::Value {
            line: reader.line(&wire.reproduced.span()),
            key: "quorum.reproduced",
            expected: format!("1 to {}, the number of quorum.operators", operators.len()),
            found: reproduced.to_string(),
        });
    }
    for url in &wire.dissent_sources {
        if !url.get_ref().starts_with("https://") {
            let expected = "a URL that starts with https://";
            return Err(reader.wrong(url, "quorum.dissent_sources", expected));
        }
    }
    let diversity = reader.closed_list(&wire.diversity, "quorum.diversity", DIVERSITY)?;
    Ok(Quorum {
        operators,
        reproduced,
        level: level(reader, wire.level.as_ref())?,
        tier: match &wire.tier {
            None => Tier::Attested,
            Some(text) => reader.value(text, "quorum.tier", "attested, hinted or inferred")?,
        },
        hints: reader.hints(&wire.hints)?,
        dissent_sources: wire.dissent_sources.into_iter().map(Spanned::into_inner).collect(),
        diversity: diversity.into_iter().collect(),
    })
}

fn level(reader: &Reader<'_>, text: Option<&Text>) -> Result<Level, PolicyError> {
    const EXPECTED: &str = "manifest, manifest-recompressed or config";
    let Some(text) = text else { return Ok(Level::Config) };
    let level: Level = reader.value(text, "quorum.level", EXPECTED)?;
    // What is only `rootfs` must never be called reproduced, and a quorum is about nothing else.
    if !level.is_reproduced() {
        return Err(reader.wrong(text, "quorum.level", EXPECTED));
    }
    Ok(level)
}

pub(super) fn log(
    reader: &Reader<'_>,
    wire: Spanned<wire::WireLog>,
) -> Result<LogPolicy, PolicyError> {
    let line = reader.line(&wire.span());
    let wire = wire.into_inner();
    let inclusion = match &wire.inclusion {
        None => Inclusion::None,
        Some(text) => Inclusion::from_word(text.get_ref())
            .ok_or_else(|| reader.wrong(text, "log.inclusion", Inclusion::EXPECTED))?,
    };
    let full_scan = match &wire.full_scan {
        None => FullScan::None,
        Some(text) => FullScan::from_word(text.get_ref())
            .ok_or_else(|| reader.wrong(text, "log.full_scan", FullScan::EXPECTED))?,
    };
    let asks = inclusion != Inclusion::None || full_scan != FullScan::None;
    if asks && (wire.origin.is_none() || wire.key.is_none()) {
        let expected = "origin and key where inclusion or full_scan asks for the log".to_owned();
        return Err(PolicyError::Table { line, table: "log", expected });
    }
    let witnesses = wire.witnesses.as_ref().map(|path| witnesses(reader, path)).transpose()?;
    Ok(LogPolicy {
        origin: wire.origin.map(|origin| reader.not_empty(origin, "log.origin")).transpose()?,
        key: wire.key.as_ref().map(|path| reader.public_key(path, "log.key")).transpose()?,
        inclusion,
        witnesses,
        full_scan,
    })
}

fn witnesses(reader: &Reader<'_>, path: &Text) -> Result<String, PolicyError> {
    let bytes = reader.file(path, "log.witnesses")?;
    String::from_utf8(bytes)
        .map_err(|_| reader.bad_file(path, "log.witnesses", "expected text, found other bytes"))
}

pub(super) fn gate(
    reader: &Reader<'_>,
    wire: Spanned<wire::WireGate>,
) -> Result<GatePolicy, PolicyError> {
    let line = reader.line(&wire.span());
    let wire = wire.into_inner();
    let default = GatePolicy::default();
    let mode = match &wire.mode {
        None => default.mode,
        Some(text) => mode(reader, text, "gate.mode")?,
    };
    let unknown = match &wire.unknown {
        None => default.unknown,
        Some(text) => UnknownRule::from_word(text.get_ref())
            .ok_or_else(|| reader.wrong(text, "gate.unknown", UnknownRule::EXPECTED))?,
    };
    let delay_until =
        wire.delay_until.as_ref().map(|text| date(reader, text, "gate.delay_until")).transpose()?;
    if mode == Mode::Delay && delay_until.is_none() {
        let expected = "delay_until where mode = \"delay\"".to_owned();
        return Err(PolicyError::Table { line, table: "gate", expected });
    }
    Ok(GatePolicy {
        mode,
        unknown,
        max_age_seconds: wire.max_age.as_ref().map(|text| duration(reader, text)).transpose()?,
        delay_until,
        regressions_only: wire.regressions_only,
    })
}

fn mode(reader: &Reader<'_>, text: &Text, key: &'static str) -> Result<Mode, PolicyError> {
    Mode::from_word(text.get_ref()).ok_or_else(|| reader.wrong(text, key, Mode::EXPECTED))
}

/// `90s`, `15m`, `12h`, `30d`, `4w`.
fn duration(reader: &Reader<'_>, text: &Text) -> Result<u64, PolicyError> {
    let bad = || {
        let expected = "a duration like 12h, 30d or 4w (s, m, h, d, w; at most ten years)";
        reader.wrong(text, "gate.max_age", expected)
    };
    let value = text.get_ref();
    let unit = value.chars().last().ok_or_else(bad)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(bad()),
    };
    let digits = value.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let count: u64 = digits.parse().map_err(|_| bad())?;
    match count.checked_mul(factor) {
        Some(seconds @ 1..=MAX_AGE_SECONDS_MAX) => Ok(seconds),
        _ => Err(bad()),
    }
}

/// `2027-01-31` is 00:00 UTC of that day; a full RFC 3339 time is taken as it is.
fn date(reader: &Reader<'_>, text: &Text, key: &'static str) -> Result<Timestamp, PolicyError> {
    let value = text.get_ref();
    let full = if value.len() == 10 { format!("{value}T00:00:00Z") } else { value.clone() };
    full.parse().map_err(|_| reader.wrong(text, key, "a date like 2027-01-31"))
}

pub(super) fn overrides(
    reader: &Reader<'_>,
    wires: Vec<wire::WireOverride>,
    gate: &GatePolicy,
) -> Result<Vec<Override>, PolicyError> {
    let mut overrides = Vec::new();
    for wire in wires {
        let listed = reader.some(&wire.repositories, "override", "repositories with an entry")?;
        let repositories = listed
            .iter()
            .map(|text| pattern(reader, text, "override.repositories"))
            .collect::<Result<_, _>>()?;
        let platforms = wire
            .platforms
            .iter()
            .map(|text| reader.value(text, "override.platforms", "a platform like linux/arm64"))
            .collect::<Result<_, _>>()?;
        let found = mode(reader, &wire.mode, "override.mode")?;
        if found == Mode::Delay && gate.delay_until.is_none() {
            let expected = "another mode, or gate.delay_until beside it";
            return Err(reader.wrong(&wire.mode, "override.mode", expected));
        }
        overrides.push(Override { repositories, platforms, mode: found });
    }
    Ok(overrides)
}

fn pattern(
    reader: &Reader<'_>,
    text: &Text,
    key: &'static str,
) -> Result<RepositoryPattern, PolicyError> {
    reader.value(text, key, "a pattern like registry.example/demo/* or oci:*")
}

pub(super) fn waiver(reader: &Reader<'_>, wire: wire::WireWaiver) -> Result<Waiver, PolicyError> {
    let target = target(reader, &wire.image)?;
    let outcomes = reader.some(&wire.outcomes, "waiver", "outcomes with an entry")?;
    let outcomes = reader.closed_list(outcomes, "waiver.outcomes", WAIVABLE)?;
    Ok(Waiver {
        target,
        outcomes: outcomes.into_iter().collect(),
        reason: reader.not_empty(wire.reason, "waiver.reason")?,
        owner: reader.not_empty(wire.owner, "waiver.owner")?,
        expires: date(reader, &wire.expires, "waiver.expires")?,
    })
}

fn target(reader: &Reader<'_>, text: &Text) -> Result<WaiverTarget, PolicyError> {
    const KEY: &str = "waiver.image";
    let Some((name, digest)) = text.get_ref().split_once('@') else {
        return Ok(WaiverTarget::Repositories(pattern(reader, text, KEY)?));
    };
    let expected = "an image like registry.example/app@sha256:<64 hex digits>, or a pattern";
    let bad = || reader.wrong(text, KEY, expected);
    let digest: Digest = digest.parse().map_err(|_| bad())?;
    if name.contains('*') {
        return Err(bad());
    }
    Ok(WaiverTarget::Image { repository: name.parse().map_err(|_| bad())?, digest })
}
