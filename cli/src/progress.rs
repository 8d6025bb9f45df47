//! A line that moves while something takes longer than a second, on a terminal only.
//!
//! Invariant: nothing is drawn where standard error is no terminal; what was drawn is gone when the
//! work is done.

use attest::Platform;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use worker::pipeline::verify::Progress;

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

impl Progress for Spinner {
    fn phase(&self, platform: &Platform, phase: &str) {
        self.say(format!("{platform}: {phase}"));
    }
}
