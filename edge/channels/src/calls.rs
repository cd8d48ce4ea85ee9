//! Several calls of services at the same time.

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

/// The results of calls, in the order of the calls. At most `at_a_time` calls are made at the same time, and the next one
/// starts once the first result is taken.
///
/// Boxed, so that the compiler does not have to find out that a stream with the caller's closures is `Send`.
pub fn in_order<'c, F>(
    at_a_time: usize,
    calls: impl Iterator<Item = F> + Send + 'c,
) -> BoxStream<'c, F::Output>
where
    F: Future + Send + 'c,
    F::Output: Send + 'c,
{
    stream::iter(calls).buffered(at_a_time).boxed()
}

/// Makes calls, at most `at_a_time` at the same time, and returns their results in the order of the calls. After a failed
/// call, no further calls are made.
pub fn call_all<'c, F, T, E>(
    at_a_time: usize,
    calls: impl Iterator<Item = F> + Send + 'c,
) -> BoxFuture<'c, Result<Vec<T>, E>>
where
    F: Future<Output = Result<T, E>> + Send + 'c,
    T: Send + 'c,
    E: Send + 'c,
{
    in_order(at_a_time, calls).try_collect::<Vec<T>>().boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Makes this number of calls, three at a time; returns the result, the number of calls that were made, and the most
    /// calls at the same time.
    async fn made(count: usize, failing: Option<usize>) -> (Result<Vec<usize>, usize>, usize, usize) {
        let started = &AtomicUsize::new(0);
        let now = &AtomicUsize::new(0);
        let most = &AtomicUsize::new(0);
        let call = |number: usize| async move {
            started.fetch_add(1, Ordering::Relaxed);
            let running = now.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(running, Ordering::Relaxed);
            // Later calls take less time.
            for _ in number..count {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::Relaxed);
            if failing == Some(number) { Err(number) } else { Ok(number) }
        };
        let result = call_all(3, (0..count).map(call)).await;
        (result, started.load(Ordering::Relaxed), most.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn results_have_the_order_of_their_calls() {
        assert_eq!(made(10, None).await, (Ok((0..10).collect()), 10, 3));
        assert_eq!(made(0, None).await, (Ok(Vec::new()), 0, 0));
    }

    #[tokio::test]
    async fn no_calls_are_made_after_a_failure() {
        let (result, started, _) = made(10, Some(0)).await;
        assert_eq!(result, Err(0));
        assert!(started <= 3, "{started}");
    }

    #[tokio::test]
    async fn a_caller_that_stops_makes_no_further_calls() {
        let started = AtomicUsize::new(0);
        let mut results = in_order(
            2,
            (0..10).map(|number| {
                started.fetch_add(1, Ordering::Relaxed);
                std::future::ready(number)
            }),
        );
        assert_eq!(results.next().await, Some(0));
        drop(results);
        assert!(started.into_inner() <= 3);
    }
}
