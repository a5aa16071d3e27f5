//! Streams of events: the register of those that are open, and the body that ends one where a fault says so.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use loopback::Connection;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Sleep, sleep};

use crate::fault::{End, Matching};
use crate::proxy::locked;
use crate::request::Asked;
use crate::status;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Between the last event and a cut: time to send it.
const BEFORE_CUT: Duration = Duration::from_millis(50);

struct Open {
    asked: Asked,
    agent: String,
    end: UnboundedSender<End>,
}

/// The watches that are open.
#[derive(Default)]
pub(crate) struct Watches {
    open: Mutex<(u64, BTreeMap<u64, Open>)>,
}

impl Watches {
    /// Ends those that are meant; answers how many.
    pub(crate) fn end(&self, matching: &Matching, end: End) -> usize {
        let open = locked(&self.open);
        let meant = open.1.values().filter(|watch| matching.meets(&watch.asked, &watch.agent));
        meant.filter(|watch| watch.end.send(end).is_ok()).count()
    }

    pub(crate) fn count(&self, matching: &Matching) -> usize {
        locked(&self.open).1.values().filter(|watch| matching.meets(&watch.asked, &watch.agent)).count()
    }

    /// Registers a watch for as long as the returned guard lives.
    pub(crate) fn register(self: &Arc<Self>, asked: Asked, agent: String) -> (Registered, UnboundedReceiver<End>) {
        let (end, ends) = unbounded_channel();
        let mut open = locked(&self.open);
        open.0 += 1;
        let id = open.0;
        open.1.insert(id, Open { asked, agent, end });
        (Registered { all: Arc::clone(self), id }, ends)
    }
}

pub(crate) struct Registered {
    all: Arc<Watches>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        locked(&self.all.open).1.remove(&self.id);
    }
}

/// The events of one watch, one a line, until its end.
pub(crate) struct Events {
    inner: kube::client::Body,
    connection: Arc<Connection>,
    ends: UnboundedReceiver<End>,
    _registered: Registered,
    /// How it ends, after how many more events.
    planned: Option<(End, usize)>,
    /// Whether the last event, a line, is whole.
    between_lines: bool,
    cutting: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Events {
    pub(crate) fn new(
        inner: kube::client::Body,
        connection: Arc<Connection>,
        (registered, ends): (Registered, UnboundedReceiver<End>),
        planned: Option<(End, usize)>,
    ) -> Self {
        Self {
            inner,
            connection,
            ends,
            _registered: registered,
            planned,
            between_lines: true,
            cutting: None,
            over: false,
        }
    }

    /// Counts the events of a piece towards the planned end, and takes off what would come after it.
    fn count(&mut self, piece: &mut Bytes) {
        if let Some((_, left)) = &mut self.planned {
            let ends = piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            let mut length = piece.len();
            for end in ends {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    length = end;
                    break;
                }
            }
            piece.truncate(length);
        }
        self.between_lines = piece.last().map_or(self.between_lines, |byte| *byte == b'\n');
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            if let Some(cutting) = &mut this.cutting {
                ready!(cutting.as_mut().poll(context));
                this.over = true;
                this.connection.reset();
                return Poll::Ready(Some(Err("the watch is cut".into())));
            }
            if let Poll::Ready(Some(end)) = this.ends.poll_recv(context) {
                this.planned = Some((end, 0));
            }
            match this.planned {
                Some((End::Cut, 0)) => {
                    this.cutting = Some(Box::pin(sleep(BEFORE_CUT)));
                    continue;
                }
                Some((End::Expired, 0)) if this.between_lines => {
                    this.over = true;
                    return Poll::Ready(Some(Ok(Frame::data(status::expired()))));
                }
                _ => {}
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                None => this.over = true,
                Some(Err(error)) => {
                    // Upstream broke off, and so does this.
                    this.over = true;
                    this.connection.reset();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => {
                    if let Ok(mut piece) = frame.into_data() {
                        this.count(&mut piece);
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                }
            }
        }
    }
}
