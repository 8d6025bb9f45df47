//! What an attacker tries, each with the reason that names it.

mod evidence;
mod identity;
mod lease;
mod subject;
mod twice;

use super::fleet::*;

/// One honest match of globex; k = 2, so whatever acme does decides.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(1, 1, same());
    fleet
}

/// What acme did does not count, for this reason.
#[track_caller]
fn refused_for(fleet: &Fleet, who: &str, code: &str) {
    assert_eq!(fleet.why(who), [code], "{:#?}", fleet.judge().not_counted);
    assert_eq!(fleet.outcome(), "inconclusive");
}

#[test]
fn the_honest_case() {
    let mut fleet = fleet();
    fleet.observe(0, 1, same());
    assert_eq!(fleet.outcome(), "reproduced");
}
