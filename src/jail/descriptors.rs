//! The limit of descriptors, which a child inherits: it gets the one that this process had at first,
//! not the one that a proxy takes.

/// How many descriptors this process may have, before it takes what it can get for its own use. The
/// child gets what it would have got: programs wait by select(2), or close all they may have.
#[derive(Debug)]
pub struct Descriptors(#[cfg(unix)] rustix::process::Rlimit);

#[cfg(unix)]
impl Descriptors {
    /// What it is at this moment.
    #[must_use]
    pub fn of_now() -> Self {
        Self(rustix::process::getrlimit(rustix::process::Resource::Nofile))
    }

    /// Starts a process with that.
    pub fn restored<T>(&self, start: impl FnOnce() -> T) -> T {
        use rustix::process::{Resource, getrlimit, setrlimit};

        let raised = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, self.0).ok();
        let started = start();
        setrlimit(Resource::Nofile, raised).ok();
        started
    }
}

#[cfg(not(unix))]
impl Descriptors {
    /// There is no such limit.
    #[must_use]
    pub fn of_now() -> Self {
        Self()
    }

    /// Starts a process.
    pub fn restored<T>(&self, start: impl FnOnce() -> T) -> T {
        start()
    }
}
