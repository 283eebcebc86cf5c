//! Waiting for several things at once, in a fixed order: every child is polled in input order at every delivery.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Most children that run at the same time under [`join_all`]; a plan of thousands goes through in slices.
pub const JOIN_LIMIT: usize = 256;

/// Waits for all; results in input order. At most `limit` are begun at a time.
pub async fn join_all<'a, T: 'a>(children: impl IntoIterator<Item = impl Future<Output = T> + 'a>, limit: usize) -> Vec<T> {
    let mut waiting: Vec<Boxed<'a, T>> = children.into_iter().map(|child| Box::pin(child) as Boxed<'a, T>).collect();
    let limit = limit.clamp(1, JOIN_LIMIT);
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    poll_fn(move |cx| {
        let mut begun = 0;
        for (child, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_some() {
                continue;
            }
            if begun == limit {
                return Poll::Pending;
            }
            match child.as_mut().poll(cx) {
                Poll::Ready(value) => *slot = Some(value),
                Poll::Pending => begun += 1,
            }
        }
        if begun > 0 {
            return Poll::Pending;
        }
        Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

/// Which of two came first; the other is handed back, still running: it is the caller's to await or to drop knowingly.
pub enum First<A, B, FA, FB> {
    /// The left one, and the unfinished right one.
    Left(A, FB),
    /// The right one, and the unfinished left one.
    Right(B, FA),
}

/// Waits for the first of two; of two that are ready at the same event the left one wins.
pub async fn race<FA: Future + Unpin, FB: Future + Unpin>(left: FA, right: FB) -> First<FA::Output, FB::Output, FA, FB> {
    let mut pair = Some((left, right));
    poll_fn(move |cx| {
        let Some((left, right)) = pair.as_mut() else { return Poll::Pending };
        if let Poll::Ready(value) = Pin::new(left).poll(cx) {
            return match pair.take() {
                Some((_, right)) => Poll::Ready(First::Left(value, right)),
                None => Poll::Pending,
            };
        }
        if let Poll::Ready(value) = Pin::new(right).poll(cx) {
            return match pair.take() {
                Some((left, _)) => Poll::Ready(First::Right(value, left)),
                None => Poll::Pending,
            };
        }
        Poll::Pending
    })
    .await
}
