//! Moves what a client says in a tunnel, as far as it has been judged.
//!
//! Only what the client sends waits here, and only while it may become what must not go on. What
//! the origin sends passes meanwhile.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout_at},
};

use super::{
    context::Context,
    mismatch::Mismatch,
    opening::{Opening, Step},
    pump::{Broken, Pump},
};

/// Why a tunnel ends while its client is still judged.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It must be closed.
    Mismatch(Mismatch),
    /// One of the two sides is gone.
    Broken(Broken),
}

/// Read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Passes on what may go on until all may, and returns what was read and not yet passed on.
/// `early` is what had been read before. Nothing is held for longer than the deadline for it.
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
    client: &mut Pump<'_>,
    early: Bytes,
    context: &Context,
) -> Result<Bytes, Stopped> {
    let limit = context.timeouts.first_bytes;
    let mut held = BytesMut::from(early);
    let mut ended = false;
    let mut held_since = Instant::now();
    loop {
        match opening.look(&held, ended, &context.policy()).map_err(Stopped::Mismatch)? {
            Step::Pass => return Ok(held.freeze()),
            Step::Release(length) => {
                client.write(held.get(..length).unwrap_or_default()).await?;
                held.advance(length.min(held.len()));
                held_since = Instant::now();
                continue;
            }
            Step::Hold => {}
        }
        if held.is_empty() {
            // No buffer is kept while nothing is held.
            held = BytesMut::new();
            client.from.readable().await.map_err(|_| Broken::Reading)?;
            held_since = Instant::now();
        }
        held.reserve(READ_BYTES);
        match timeout_at(held_since + limit, client.from.read_buf(&mut held)).await {
            Ok(Ok(0)) => ended = true,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Broken::Reading.into()),
            // There was nothing to read after all.
            Err(_) if held.is_empty() => {}
            Err(_) => return Err(Stopped::Mismatch(opening.give_up())),
        }
    }
}

impl From<Broken> for Stopped {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}
