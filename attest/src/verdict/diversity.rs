//! Whether k counted operators differ in the facts that the policy names.
//!
//! "Differ" is pairwise, in each fact: k operators on k kernels. The facts are the workers' own
//! words; an empty one is not known, and what is not known differs from nothing.
//! Invariant: an exhaustive search with a bound on its steps; where the bound is hit the answer is
//! no, so the bound can only ever withhold a pass.

use crate::observation::Environment;

/// Most steps of the search. 20 operators and two facts need a few hundred.
const STEPS_MAX: u32 = 100_000;

fn fact(environment: &Environment, name: &str) -> Option<String> {
    let text = match name {
        "architecture" => environment.architecture.clone(),
        "cpu-vendor" => environment.cpu_vendor.clone(),
        // Workers write 0 where they do not know.
        "cpus" if environment.cpus == 0 => return None,
        "cpus" => environment.cpus.to_string(),
        "filesystem" => environment.filesystem.clone(),
        "kernel" => environment.kernel.clone(),
        "locale" => environment.locale.clone(),
        "timezone" => environment.timezone.clone(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// True when `k` of these environments differ pairwise in each of the named facts.
pub(super) fn enough(environments: &[&Environment], facts: &[String], k: usize) -> bool {
    if facts.is_empty() {
        return environments.len() >= k;
    }
    // An environment in which a fact is not known cannot be one of the k.
    let known = |environment: &&Environment| {
        facts.iter().map(|name| fact(environment, name)).collect::<Option<Vec<_>>>()
    };
    let mut rows: Vec<Vec<String>> = environments.iter().filter_map(known).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut steps = STEPS_MAX;
    choose(&rows, &mut Vec::new(), k, &mut steps)
}

fn choose<'a>(
    rows: &'a [Vec<String>],
    chosen: &mut Vec<&'a Vec<String>>,
    k: usize,
    steps: &mut u32,
) -> bool {
    if chosen.len() >= k {
        return true;
    }
    for (at, row) in rows.iter().enumerate() {
        if chosen.len() + rows.len() - at < k {
            return false;
        }
        *steps = steps.saturating_sub(1);
        if *steps == 0 {
            return false;
        }
        let differs = |other: &&Vec<String>| other.iter().zip(row).all(|(a, b)| a != b);
        if chosen.iter().all(differs) {
            chosen.push(row);
            if choose(&rows[at + 1..], chosen, k, steps) {
                return true;
            }
            chosen.pop();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(kernel: &str, cpu_vendor: &str) -> Environment {
        Environment {
            kernel: kernel.into(),
            cpu_vendor: cpu_vendor.into(),
            ..Environment::default()
        }
    }

    #[test]
    fn pairwise_in_each_fact() {
        let all = [
            environment("6.1", "AuthenticAMD"),
            environment("6.1", "GenuineIntel"),
            environment("6.8", "GenuineIntel"),
            environment("", "ARM"),
        ];
        let all: Vec<&Environment> = all.iter().collect();
        let facts = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(enough(&all, &[], 4) && !enough(&all, &[], 5));
        assert!(enough(&all, &facts(&["kernel"]), 2));
        assert!(!enough(&all, &facts(&["kernel"]), 3), "an unknown kernel differs from nothing");
        assert!(enough(&all, &facts(&["cpu-vendor"]), 3));
        // 6.1/AMD with 6.8/Intel: found although 6.1/Intel comes between them.
        assert!(enough(&all, &facts(&["kernel", "cpu-vendor"]), 2));
        assert!(!enough(&all[..2], &facts(&["kernel", "cpu-vendor"]), 2));
        assert!(!enough(&all, &facts(&["moon"]), 1));
    }

    #[test]
    fn each_fact_that_a_policy_may_name_is_looked_at_and_an_unknown_one_differs_from_nothing() {
        for name in crate::policy::DIVERSITY {
            let with = |value: &str, cpus: u32| {
                let mut environment = environment("6.1", "ARM");
                let field = match *name {
                    "architecture" => &mut environment.architecture,
                    "cpu-vendor" => &mut environment.cpu_vendor,
                    "filesystem" => &mut environment.filesystem,
                    "kernel" => &mut environment.kernel,
                    "locale" => &mut environment.locale,
                    "timezone" => &mut environment.timezone,
                    _ => return Environment { cpus, ..environment },
                };
                *field = value.to_owned();
                environment
            };
            let (a, b, unknown) = (with("a", 1), with("b", 2), with("", 0));
            let facts = [(*name).to_owned()];
            assert!(enough(&[&a, &b], &facts, 2), "{name}");
            assert!(!enough(&[&a, &a], &facts, 2), "{name}");
            assert!(!enough(&[&a, &unknown], &facts, 2), "{name}");
        }
    }

    #[test]
    fn the_search_is_bounded() {
        // 60 rows on a 12 x 5 grid hold no 6 that differ in both; the search must end.
        let rows: Vec<Environment> =
            (0..60).map(|i| environment(&format!("k{}", i % 12), &format!("v{}", i % 5))).collect();
        let rows: Vec<&Environment> = rows.iter().collect();
        let facts = ["kernel".to_owned(), "cpu-vendor".to_owned()];
        assert!(enough(&rows, &facts, 5) && !enough(&rows, &facts, 6));
    }
}
