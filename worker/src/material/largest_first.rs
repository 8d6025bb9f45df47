//! Several packages at the same time, the largest first, so that no core is left with a large one
//! when the others have run out of work.
//!
//! Invariant: the results are in the order that was asked for. Of several failures the one that
//! counts depends on the sizes, not on time.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{cmp::Reverse, future::Future};

/// Packages fetched and unpacked at the same time.
const AT_ONCE: usize = 4;

/// Does one after the other, a few at the same time.
pub async fn largest_first<T, R, E, F: Future<Output = Result<R, E>>>(
    wanted: Vec<T>,
    size: impl Fn(&T) -> u64,
    one: impl Fn(T) -> F,
) -> Result<Vec<R>, E> {
    let mut ordered: Vec<(usize, T)> = wanted.into_iter().enumerate().collect();
    ordered.sort_by_cached_key(|(_, wanted)| Reverse(size(wanted)));
    let places: Vec<usize> = ordered.iter().map(|(place, _)| *place).collect();
    let work = stream::iter(ordered).map(|(_, wanted)| one(wanted));
    let done: Vec<R> = work.buffered(AT_ONCE).try_collect().await?;
    let mut done: Vec<(usize, R)> = places.into_iter().zip(done).collect();
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn begun_by_size_and_given_in_the_order_asked_for() {
        let begun = Mutex::new(Vec::new());
        let one = |number: u64| {
            begun.lock().unwrap().push(number);
            async move { if number == 7 { Err(number) } else { Ok(number * 10) } }
        };
        let done = largest_first(vec![3, 1, 9, 2, 5, 4], |number| *number, one).await;
        assert_eq!(done, Ok(vec![30, 10, 90, 20, 50, 40]));
        assert_eq!(*begun.lock().unwrap(), [9, 5, 4, 3, 2, 1]);
        assert_eq!(largest_first(vec![1, 7, 8], |number| *number, one).await, Err(7));
    }
}
