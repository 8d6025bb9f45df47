//! One file with its switches.
//!
//! Invariant: only the branch that is taken without any mutant holds further switches; alternatives
//! are text as it was, so that the result grows with the depth of nesting and no faster.

use crate::{
    Mutant,
    places::{Kind, Place, Places},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    ops::Range,
};

/// The file, and what `main` prints.
pub struct Written {
    /// The file's text.
    pub text: String,
    /// One line for each alternative, switch, and mutant that was left out.
    pub report: Vec<String>,
}

struct Writer<'a> {
    file: &'a str,
    source: &'a str,
    switches: Vec<(&'a Place, Vec<&'a Mutant>)>,
    /// What a body returns at once, by its first byte.
    returns: BTreeMap<usize, Vec<&'a Mutant>>,
    /// The word `const` of functions that hold a switch.
    consts: BTreeMap<usize, usize>,
    text: String,
    report: Vec<String>,
}

/// Writes a file with these mutants. `stays` names functions that must stay `const`.
pub fn write(
    file: &str,
    source: &str,
    mutants: &[Mutant],
    stays: &BTreeSet<&str>,
) -> Result<Written, syn::Error> {
    let places = Places::of(source)?;
    let mut writer = Writer {
        file,
        source,
        switches: Vec::new(),
        returns: BTreeMap::new(),
        consts: BTreeMap::new(),
        text: String::new(),
        report: Vec::new(),
    };
    for mutant in mutants {
        if let Err(why) = writer.place(&places, mutant, stays) {
            writer.report.push(format!("L {} {why}", mutant.number));
        }
    }
    writer.bytes(0..source.len(), None);
    Ok(Written { text: writer.text, report: writer.report })
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl<'a> Writer<'a> {
    fn place(
        &mut self,
        places: &'a Places,
        mutant: &'a Mutant,
        stays: &BTreeSet<&str>,
    ) -> Result<(), &'static str> {
        let around = places.functions.iter().filter(|f| within(&mutant.bytes, &f.bytes));
        let function = around.min_by_key(|f| f.bytes.len()).ok_or("constant")?;
        if function.constant.is_some()
            && stays.contains(format!("{}:{}", self.file, function.name).as_str())
        {
            return Err("const-fn");
        }
        let kind = match mutant.genre.as_str() {
            "FnValue" if function.opaque => return Err("impl-trait"),
            "FnValue" => None,
            "BinaryOperator" | "UnaryOperator" => Some(Kind::Operators),
            "MatchArm" | "MatchArmGuard" => Some(Kind::Match),
            "StructField" => Some(Kind::Struct),
            _ => return Err("unknown-genre"),
        };
        match kind {
            None => self.returns.entry(function.body).or_default().push(mutant),
            Some(kind) => {
                let fit = |p: &&Place| p.kind == kind && within(&mutant.bytes, &p.bytes);
                let place = places.places.iter().filter(fit).min_by_key(|p| p.bytes.len());
                let place = place.ok_or("let-chain")?;
                match self.switches.iter_mut().find(|(p, _)| p.bytes == place.bytes) {
                    Some((_, all)) => all.push(mutant),
                    None => self.switches.push((place, vec![mutant])),
                }
            }
        }
        if let Some(word) = &function.constant {
            self.consts.insert(word.start, word.end);
        }
        Ok(())
    }

    fn line(&self) -> usize {
        self.text.bytes().filter(|b| *b == b'\n').count() + 1
    }

    /// An alternative on lines of its own.
    fn alternative(&mut self, mutant: &Mutant, text: &str) {
        self.text.push('\n');
        let first = self.line();
        self.text.push_str(text);
        let last = self.line();
        self.report.push(format!("A {} {} {first} {last}", mutant.number, self.file));
        self.text.push('\n');
    }

    /// These bytes of the source with every switch in them but the one `outside`.
    fn bytes(&mut self, range: Range<usize>, outside: Option<usize>) {
        let mut at = range.start;
        while at < range.end {
            for mutant in self.returns.remove(&at).unwrap_or_default() {
                let active = mutant.number;
                let _ = write!(self.text, "if crate::mutant::active() == {active} {{ return");
                self.alternative(mutant, &format!("{}; }}", mutant.replacement));
            }
            if let Some(end) = self.consts.get(&at) {
                at = *end;
                continue;
            }
            let starts = |n: &usize| {
                let place = &self.switches[*n].0.bytes;
                let own = outside.is_some_and(|o| self.switches[o].0.bytes == *place);
                place.start == at && within(place, &range) && !own
            };
            let found = (0..self.switches.len()).filter(starts);
            if let Some(n) = found.max_by_key(|n| self.switches[*n].0.bytes.end) {
                at = self.switches[n].0.bytes.end;
                self.switch(n);
                continue;
            }
            let next = self.source[at..].chars().next().map_or(1, char::len_utf8);
            self.text.push_str(&self.source[at..at + next]);
            at += next;
        }
    }

    fn switch(&mut self, n: usize) {
        let (place, mutants) = (self.switches[n].0, self.switches[n].1.clone());
        let first = self.line();
        let (open, close) = if place.statement { ("", "") } else { ("(", ")") };
        let none: Vec<_> =
            mutants.iter().map(|m| format!("assay_mutant != {}", m.number)).collect();
        let none = none.join(" && ");
        let _ =
            write!(self.text, "{open}match crate::mutant::active() {{ assay_mutant if {none} => ");
        self.bytes(place.bytes.clone(), Some(n));
        self.text.push(',');
        for mutant in &mutants {
            let before = &self.source[place.bytes.start..mutant.bytes.start];
            let after = &self.source[mutant.bytes.end..place.bytes.end];
            let _ = write!(self.text, "{} => ", mutant.number);
            self.alternative(mutant, &format!("{before}{}{after}", mutant.replacement));
            self.text.push_str(",\n");
        }
        let _ = write!(self.text, "_ => unreachable!() }}{close}");
        let all: Vec<_> = mutants.iter().map(|m| m.number.to_string()).collect();
        let last = self.line();
        self.report.push(format!("S {} {first} {last} {}", self.file, all.join(",")));
    }
}
