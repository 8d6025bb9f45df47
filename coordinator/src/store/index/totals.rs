//! Unfinished jobs, counted, as the tables have them.
//!
//! Invariant: a count that is not there is none; every tenant is read, however many there are. It must
//! never count jobs: the index keeps the counts with each transition.

use super::super::rows::{after, key, tail_number};
use super::super::tables::Tables;
use super::{
    error::{IndexError, doubt},
    questions::PAGE_MAX,
};
use crate::queue::{Class, Tenant, Totals};

pub(super) fn read_totals<T: Tables>(tables: &T) -> Result<Totals, IndexError> {
    let mut totals = Totals::default();
    for (class, count) in (0u8..).zip(totals.by_class.iter_mut()).take(Class::ALL.len()) {
        let value = tables.get(&key(b'c', &[&[class]]))?;
        *count = value.and_then(|value| tail_number(&value)).unwrap_or_default();
    }
    totals.unfinished = totals.by_class.iter().sum();
    let mut from = b"t".to_vec();
    loop {
        let rows = tables.range(&from, &after(b"t"), PAGE_MAX)?;
        for (key, value) in &rows {
            let tenant = String::from_utf8(key.get(1..).unwrap_or_default().to_vec());
            let tenant = Tenant(tenant.map_err(doubt)?);
            totals.by_tenant.insert(tenant, tail_number(value).unwrap_or_default());
        }
        match rows.last() {
            Some((key, _)) if rows.len() == PAGE_MAX => from = [key.as_slice(), &[0]].concat(),
            _ => return Ok(totals),
        }
    }
}
