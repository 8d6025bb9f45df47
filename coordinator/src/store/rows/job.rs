//! A job's state as the index keeps it, field by field.
//!
//! JSON of the same takes three times as many bytes: a job with nine answers was 4.3 KB, written again
//! with each of its steps, and most of what sled had to read at a start.
//! Invariant: the same job gives the same bytes, and they read as the same job. Every field is named
//! here, so that a new one does not compile before it has its place (and the layout its number,
//! [`super::SCHEMA`]). It must never be the only place of anything: the journal has all.

use super::bytes::{Reader, Writer};
use super::role;
use crate::queue::{
    Answer, Class, Grant, Job, JobSpec, Millis, ParkReason, Phase, Said, Slot, Tenant,
};
use attest::{
    Platform, Subject,
    id::{Attempt, Fence, JobId, LeaseId, ObservationId, WorkerId},
};

/// A guess for the first buffer: a job with one or two answers.
const BYTES_OFTEN: usize = 512;

/// The job's bytes.
pub fn encode(job: &Job) -> Vec<u8> {
    let Job {
        spec,
        tenant,
        class,
        rank,
        announced_at,
        opened_at,
        attempt,
        reopenings,
        phase,
        slots,
        fence,
        deferrals,
        tries,
        answers,
        considered,
        excluded,
        skips,
        fruitless,
        asker,
    } = job;
    let mut out = Writer(Vec::with_capacity(BYTES_OFTEN));
    put_spec(&mut out, spec);
    out.text(&tenant.0);
    out.code(*class as u8);
    out.number(*rank);
    out.number(announced_at.0);
    out.number(opened_at.0);
    out.number(attempt.0);
    out.number((*reopenings).into());
    put_phase(&mut out, phase);
    out.list(slots, put_slot);
    out.number(fence.0);
    out.number((*deferrals).into());
    out.number((*tries).into());
    out.list(answers, put_answer);
    out.number(*considered as u64);
    out.list(excluded, |out, operator| out.text(operator.as_str()));
    out.list(skips, |out, (operator, at)| {
        out.text(operator.as_str());
        out.number(at.0);
    });
    out.list(fruitless, |out, (operator, tries)| {
        out.text(operator.as_str());
        out.number((*tries).into());
    });
    out.maybe(asker.as_ref(), |out, tenant| out.text(&tenant.0));
    out.0
}

/// The job; none if the bytes are not those of one.
pub fn decode(bytes: &[u8]) -> Option<Job> {
    let mut at = Reader(bytes);
    let job = Job {
        spec: spec(&mut at)?,
        tenant: Tenant(at.text()?),
        class: class(at.code()?)?,
        rank: at.number()?,
        announced_at: Millis(at.number()?),
        opened_at: Millis(at.number()?),
        attempt: Attempt(at.number()?),
        reopenings: at.number32()?,
        phase: phase(&mut at)?,
        slots: at.list(slot)?,
        fence: Fence(at.number()?),
        deferrals: at.number32()?,
        tries: at.number32()?,
        answers: at.list(answer)?,
        considered: usize::try_from(at.number()?).ok()?,
        excluded: at.list(|at| at.text()?.parse().ok())?,
        skips: at.list(|at| Some((at.text()?.parse().ok()?, Millis(at.number()?))))?,
        fruitless: at.list(|at| Some((at.text()?.parse().ok()?, at.number32()?)))?,
        asker: at.maybe(|at| at.text().map(Tenant))?,
    };
    at.0.is_empty().then_some(job)
}

fn put_spec(out: &mut Writer, spec: &JobSpec) {
    let JobSpec { id, subject, recipes, rebuilder, memory_mib, wanted, execution_ms_max } = spec;
    let Subject { repository, digest, platform } = subject;
    let Platform { os, architecture, variant } = platform;
    out.raw(id.0.raw());
    out.text(repository.as_str());
    out.raw(digest.raw());
    out.text(os);
    out.text(architecture);
    out.maybe(variant.as_deref(), Writer::text);
    out.list(recipes, |out, recipe| out.raw(recipe.raw()));
    out.text(rebuilder);
    out.number((*memory_mib).into());
    out.number((*wanted).into());
    out.number(*execution_ms_max);
}

fn spec(at: &mut Reader<'_>) -> Option<JobSpec> {
    Some(JobSpec {
        id: JobId(at.digest()?),
        subject: Subject {
            repository: at.text()?.parse().ok()?,
            digest: at.digest()?,
            platform: Platform {
                os: at.text()?,
                architecture: at.text()?,
                variant: at.maybe(Reader::text)?,
            },
        },
        recipes: at.list(Reader::digest)?,
        rebuilder: at.text()?,
        memory_mib: at.number32()?,
        wanted: at.number32()?,
        execution_ms_max: at.number()?,
    })
}

fn class(code: u8) -> Option<Class> {
    Class::ALL.get(code as usize).copied()
}

fn put_phase(out: &mut Writer, phase: &Phase) {
    match phase {
        Phase::Open => out.code(0),
        Phase::Deferred { until } => {
            out.code(1);
            out.number(until.0);
        }
        Phase::Judged { outcome } => {
            out.code(2);
            out.text(outcome);
        }
        Phase::Parked { why, outcome } => {
            out.code(3);
            out.code(match why {
                ParkReason::Attempts => 0,
                ParkReason::Tries => 1,
                ParkReason::Operators => 2,
                ParkReason::Unroutable => 3,
            });
            out.maybe(outcome.as_deref(), Writer::text);
        }
    }
}

fn phase(at: &mut Reader<'_>) -> Option<Phase> {
    Some(match at.code()? {
        0 => Phase::Open,
        1 => Phase::Deferred { until: Millis(at.number()?) },
        2 => Phase::Judged { outcome: at.text()? },
        3 => Phase::Parked {
            why: match at.code()? {
                0 => ParkReason::Attempts,
                1 => ParkReason::Tries,
                2 => ParkReason::Operators,
                3 => ParkReason::Unroutable,
                _ => return None,
            },
            outcome: at.maybe(Reader::text)?,
        },
        _ => return None,
    })
}

fn put_slot(out: &mut Writer, slot: &Slot) {
    match slot {
        Slot::Open => out.code(0),
        Slot::Offered { grant, until } => {
            out.code(1);
            put_grant(out, grant);
            out.number(until.0);
        }
        Slot::Leased { grant, deadline, grace_ms, suspect } => {
            out.code(2);
            put_grant(out, grant);
            out.number(deadline.0);
            out.number(*grace_ms);
            out.maybe(*suspect, |out, since| out.number(since.0));
        }
        Slot::Answered { operator, observation } => {
            out.code(3);
            out.text(operator.as_str());
            out.raw(observation.0.raw());
        }
    }
}

fn slot(at: &mut Reader<'_>) -> Option<Slot> {
    Some(match at.code()? {
        0 => Slot::Open,
        1 => Slot::Offered { grant: grant(at)?, until: Millis(at.number()?) },
        2 => Slot::Leased {
            grant: grant(at)?,
            deadline: Millis(at.number()?),
            grace_ms: at.number()?,
            suspect: at.maybe(|at| at.number().map(Millis))?,
        },
        3 => Slot::Answered {
            operator: at.text()?.parse().ok()?,
            observation: ObservationId(at.digest()?),
        },
        _ => return None,
    })
}

fn put_grant(out: &mut Writer, grant: &Grant) {
    let Grant { lease, fence, worker, operator } = grant;
    out.raw(&lease.0);
    out.number(fence.0);
    out.raw(worker.0.raw());
    out.text(operator.as_str());
}

fn grant(at: &mut Reader<'_>) -> Option<Grant> {
    Some(Grant {
        lease: LeaseId(at.take()?),
        fence: Fence(at.number()?),
        worker: WorkerId(at.digest()?),
        operator: at.text()?.parse().ok()?,
    })
}

fn put_answer(out: &mut Writer, answer: &Answer) {
    let Answer {
        observation,
        operator,
        worker,
        attempt,
        lease,
        fence,
        said,
        role,
        duration_ms,
        bytes,
    } = answer;
    out.raw(observation.0.raw());
    out.text(operator.as_str());
    out.raw(worker.0.raw());
    out.number(attempt.0);
    out.raw(&lease.0);
    out.number(fence.0);
    put_said(out, said);
    out.code(*role as u8);
    out.number(*duration_ms);
    out.number(*bytes);
}

fn answer(at: &mut Reader<'_>) -> Option<Answer> {
    Some(Answer {
        observation: ObservationId(at.digest()?),
        operator: at.text()?.parse().ok()?,
        worker: WorkerId(at.digest()?),
        attempt: Attempt(at.number()?),
        lease: LeaseId(at.take()?),
        fence: Fence(at.number()?),
        said: said(at)?,
        role: role(at.code()?)?,
        duration_ms: at.number()?,
        bytes: at.number()?,
    })
}

fn put_said(out: &mut Writer, said: &Said) {
    match said {
        Said::Output { manifest } => {
            out.code(0);
            out.raw(manifest.raw());
        }
        Said::BuildFailed { class } => {
            out.code(1);
            out.text(class);
        }
        Said::RecipeInvalid { class } => {
            out.code(2);
            out.text(class);
        }
        Said::LimitExceeded { class } => {
            out.code(3);
            out.text(class);
        }
        Said::InputUnavailable => out.code(4),
        Said::Timeout => out.code(5),
        Said::Refused => out.code(6),
    }
}

fn said(at: &mut Reader<'_>) -> Option<Said> {
    Some(match at.code()? {
        0 => Said::Output { manifest: at.digest()? },
        1 => Said::BuildFailed { class: at.text()? },
        2 => Said::RecipeInvalid { class: at.text()? },
        3 => Said::LimitExceeded { class: at.text()? },
        4 => Said::InputUnavailable,
        5 => Said::Timeout,
        6 => Said::Refused,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
