//! The same for many units, so many at once: a burst of reads would take every turn of the bus.

use tokio::task::JoinSet;

/// Does something with each item, with at most so many under way. The results come as they are ready; one that panicked
/// has none. Dropping it ends what is under way.
pub(super) async fn each<I, F>(
    items: impl IntoIterator<Item = I>,
    at_once: usize,
    act: impl Fn(I) -> F,
) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (mut items, mut under_way, mut done) = (items.into_iter(), JoinSet::new(), Vec::new());
    loop {
        while under_way.len() < at_once
            && let Some(item) = items.next()
        {
            under_way.spawn(act(item));
        }
        match under_way.join_next().await {
            Some(result) => done.extend(result.ok()),
            None => return done,
        }
    }
}
