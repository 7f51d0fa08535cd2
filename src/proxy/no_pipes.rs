//! The same where splice(2) does not exist: nobody is lent a pipe.

use std::{convert::Infallible, io, marker::PhantomData};

use tokio::net::TcpStream;

/// No pipes.
#[derive(Debug)]
pub struct Pipes;

/// There is none.
#[derive(Debug)]
pub(super) struct TakenPipe<'a>(Infallible, PhantomData<&'a ()>);

impl Pipes {
    /// Descriptors that pipes may use.
    pub const DESCRIPTORS: u64 = 0;

    /// None, whatever is wanted.
    #[must_use]
    pub fn new(_usable: bool) -> Self {
        Self
    }

    /// There is nothing to close.
    pub fn sweep(&self) {}

    pub(super) fn are_usable(&self) -> bool {
        false
    }

    pub(super) fn take(&self) -> Option<TakenPipe<'_>> {
        None
    }
}

impl TakenPipe<'_> {
    pub(super) fn held(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn fill(&mut self, _: &TcpStream) -> io::Result<usize> {
        match self.0 {}
    }

    pub(super) fn empty(&mut self, _: &TcpStream) -> io::Result<usize> {
        match self.0 {}
    }
}
