//! A table for people and a line of JSON for programs.

use anyhow::Result;
use std::{io::Write, time::Duration};

/// One measured number.
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    wanted: &'static str,
}

/// What a measurement found.
pub struct Report {
    title: String,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty one.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), figures: Vec::new() }
    }

    /// Adds a number; `wanted` is what it is compared with.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        wanted: &'static str,
    ) {
        self.figures.push(Figure { name: name.into(), value, unit, wanted });
    }

    /// Adds the percentiles of a latency.
    pub fn latency(&mut self, name: &str, samples: &mut [Duration], wanted: &'static str) {
        samples.sort_unstable();
        for (label, share, wanted) in [("p50", 0.5, ""), ("p99", 0.99, wanted), ("max", 1.0, "")] {
            let at = ((samples.len() as f64 * share) as usize).min(samples.len().max(1) - 1);
            let value = samples.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0;
            self.add(format!("{name}, {label}"), value, "ms", wanted);
        }
    }

    /// Prints both.
    pub fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{}", self.title)?;
        for Figure { name, value, unit, wanted } in &self.figures {
            let digits = if *value < 100.0 { 2 } else { 0 };
            writeln!(out, "  {name:<56} {value:>12.digits$} {unit:<14} {wanted}")?;
        }
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|f| serde_json::json!({"name": f.name, "value": f.value, "unit": f.unit}))
            .collect();
        let line =
            serde_json::json!({"schema": "assay/load/v1", "title": self.title, "figures": figures});
        writeln!(out, "{line}")?;
        Ok(())
    }
}
