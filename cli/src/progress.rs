//! A line that moves while something takes longer than a second, on a terminal only.
//!
//! Invariant: nothing is drawn where standard error is no terminal; what was drawn is gone when the
//! work is done.

use attest::Platform;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};
use worker::{assemble::AssembleProgress, pipeline::progress::Progress};

/// A spinner with the phase of each platform.
pub struct Spinner(Option<ProgressBar>);

impl Spinner {
    /// Draws only on a terminal.
    pub fn new(what: &str) -> Self {
        if !crate::output::progress() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// Says what is being done now.
    pub fn say(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// How often a line is said where nothing can be drawn.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How far something long is: drawn on a terminal, said now and then elsewhere.
pub struct Steps {
    spinner: Spinner,
    what: &'static str,
    said: Cell<Instant>,
}

impl Steps {
    /// Begins.
    pub fn new(what: &'static str) -> Self {
        Self { spinner: Spinner::new(what), what, said: Cell::new(Instant::now()) }
    }

    /// So many are done, of so many if that is known.
    pub fn at(&self, unit: &str, done: u64, total: Option<u64>) {
        let of = total.map_or(String::new(), |total| {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            format!(" of {total} ({percent} %)")
        });
        let text = format!("{}: {unit} {done}{of}", self.what);
        if self.spinner.0.is_none() && self.said.get().elapsed() >= SAY_EVERY {
            self.said.set(Instant::now());
            crate::output::say(&text);
        }
        self.spinner.say(text);
    }
}

impl Progress for Spinner {
    fn phase(&self, platform: &Platform, phase: &str) {
        self.say(format!("{platform}: {phase}"));
    }
}

/// A bar for work whose amount is known. Remarks are printed wherever standard error goes.
pub struct Bar(ProgressBar);

impl Bar {
    /// Draws only on a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        if crate::output::progress() {
            bar.enable_steady_tick(Duration::from_millis(120));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl AssembleProgress for Bar {
    fn begin(&self, what: &str, total: u64, bytes: bool) {
        let template = match (total, bytes) {
            (0, _) => "{spinner} {msg} ({elapsed})",
            (_, true) => "{bar:24} {msg} {bytes}/{total_bytes} ({elapsed})",
            (_, false) => "{bar:24} {msg} {pos}/{len} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_length(total);
        self.0.set_position(0);
        self.0.set_message(what.to_owned());
    }

    fn advance(&self, done: u64) {
        self.0.inc(done);
    }

    fn remark(&self, text: &str) {
        self.0.suspend(|| crate::output::say(text));
    }

    fn temporary(&self, folder: &Path) {
        crate::scratch::remember(folder);
    }
}
