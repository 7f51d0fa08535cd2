//! One buffer for all that a worker thread copies.
//!
//! Nothing stays in it between two uses, so a tunnel in which nothing moves owns no buffer, and
//! all of them together need one a thread.

use std::cell::RefCell;

/// Bytes that are read at a time.
pub(super) const SHARED_BUFFER_BYTES: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; SHARED_BUFFER_BYTES].into_boxed_slice());
}

/// Lends the buffer of this thread. What is left in it is anybody's.
///
/// # Panics
///
/// If `work` asks for the buffer again.
pub(super) fn with_shared_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(buffer))
}
