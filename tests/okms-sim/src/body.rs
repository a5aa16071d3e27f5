//! Answer bodies, whole, slow or cut short.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// Pieces of a slow body.
const PIECES: usize = 10;

/// Between the first half of a body and its cut: time to send it. HTTP/2 forgets what is queued when a stream is reset, and
/// does not tell when it was sent.
const BEFORE_CUT: Duration = Duration::from_millis(50);

pub(crate) struct Body {
    pieces: VecDeque<Bytes>,
    /// What is announced, whether or not it will come.
    announced: u64,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
    /// When a body that is cut short ends in an error.
    cut: Option<Pin<Box<Sleep>>>,
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        let announced = length(&bytes);
        Self { pieces: VecDeque::from([bytes]), announced, pause: None, cut: None }
    }

    pub(crate) fn empty() -> Self {
        Self { pieces: VecDeque::new(), announced: 0, pause: None, cut: None }
    }

    /// The same body in pieces, spread over a time.
    pub(crate) fn slowed(mut self, over: Duration) -> Self {
        let size = usize::try_from(self.announced).unwrap_or(usize::MAX);
        let piece = size.div_ceil(PIECES).max(1);
        self.pieces = self
            .pieces
            .into_iter()
            .flat_map(|mut bytes| {
                std::iter::from_fn(move || {
                    let take = piece.min(bytes.len());
                    (take > 0).then(|| bytes.split_to(take))
                })
            })
            .collect();
        let pause = over / u32::try_from(self.pieces.len().max(1)).unwrap_or(u32::MAX);
        self.pause = Some((pause, Box::pin(sleep(pause))));
        self
    }

    /// The first half, and then an error.
    pub(crate) fn truncated(mut self) -> Self {
        let mut left = usize::try_from(self.announced / 2).unwrap_or(usize::MAX);
        for piece in &mut self.pieces {
            piece.truncate(left);
            left -= piece.len();
        }
        self.pieces.retain(|piece| !piece.is_empty());
        self.cut = Some(Box::pin(sleep(BEFORE_CUT)));
        self
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.pieces.is_empty()
            && let Some((pause, timer)) = &mut self.pause
        {
            ready!(timer.as_mut().poll(context));
            *timer = Box::pin(sleep(*pause));
        }
        if let Some(piece) = self.pieces.pop_front() {
            if let Some(cut) = &mut self.cut {
                cut.as_mut().reset(Instant::now() + BEFORE_CUT);
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.cut {
            None => Poll::Ready(None),
            Some(cut) => {
                ready!(cut.as_mut().poll(context));
                Poll::Ready(Some(Err(io::Error::other("the body is cut short"))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.cut.is_none()
    }
}
