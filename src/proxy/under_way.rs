//! A request under way: from its head until its answer has been handed over, or its client is gone.
//!
//! It holds a place, and it keeps the gate from taking a client that waits for its answer for one
//! that has nothing to ask.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    body::{Broken, ReplyBody},
    gate::Report,
    places::Place,
};

/// What ends with a request.
#[derive(Debug)]
pub(super) struct UnderWay {
    report: Arc<Report>,
    _place: Option<Place>,
}

/// The body of an answer, and what ends with it.
#[derive(Debug)]
pub(super) struct Reply {
    body: ReplyBody,
    _under_way: UnderWay,
}

impl UnderWay {
    pub(super) fn new(report: Arc<Report>) -> Self {
        Self { report, _place: None }
    }

    /// Keeps a place.
    pub(super) fn hold(&mut self, place: Place) {
        self._place = Some(place);
    }

    /// Goes on as long as the answer.
    pub(super) fn until_answered(self, body: ReplyBody) -> Reply {
        Reply { body, _under_way: self }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.report.answered();
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
