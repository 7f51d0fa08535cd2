//! Moves what a client says in a tunnel, as far as it has been judged.
//!
//! Only what the client sends waits here, and only while it may become what must not go on. What
//! the origin sends passes meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    time::{Instant, timeout_at},
};

use super::{
    mismatch::Mismatch,
    opening::{Opening, Step},
};
use crate::policy::Policy;

/// Why a tunnel ends while its client is still judged.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It must be closed.
    Mismatch(Mismatch),
    /// The client is gone.
    Reading,
    /// The origin is gone.
    Writing,
}

/// Read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Passes on what may go on until all may, and returns what was read and not yet passed on.
/// `early` is what had been read before; `limit` bounds how long anything is held.
///
/// # Errors
///
/// The tunnel must end; what was held is dropped.
///
/// # Cancel safety
///
/// None: bytes that are held are lost.
pub(super) async fn let_pass(
    opening: &mut Opening,
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    early: Bytes,
    limit: Duration,
    policy: impl Fn() -> Arc<Policy>,
    count: impl Fn(usize),
) -> Result<Bytes, Stopped> {
    let mut held = BytesMut::from(early);
    let mut ended = false;
    let mut held_since = Instant::now();
    loop {
        match opening.look(&held, ended, &policy()).map_err(Stopped::Mismatch)? {
            Step::Pass => return Ok(held.freeze()),
            Step::Release(length) => {
                let released = held.get(..length).unwrap_or_default();
                to.write_all(released).await.map_err(|_| Stopped::Writing)?;
                count(released.len());
                held.advance(length.min(held.len()));
                held_since = Instant::now();
                continue;
            }
            Step::Hold => {}
        }
        if held.is_empty() {
            // No buffer is kept while nothing is held.
            held = BytesMut::new();
            from.readable().await.map_err(|_| Stopped::Reading)?;
            held_since = Instant::now();
        }
        held.reserve(READ_BYTES);
        match timeout_at(held_since + limit, from.read_buf(&mut held)).await {
            Ok(Ok(0)) => ended = true,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Stopped::Reading),
            // There was nothing to read after all.
            Err(_) if held.is_empty() => {}
            Err(_) => return Err(Stopped::Mismatch(opening.give_up())),
        }
    }
}
