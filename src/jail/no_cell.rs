//! There is no jail but on Linux.

use std::ffi::OsString;

use tokio::process::Child;

use super::{Cause, Fault, Outlets, Variable, Within};

/// A jail; there is none.
#[derive(Debug)]
pub enum Cell {}

impl Cell {
    /// Never builds one.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn build(
        _: &[&str],
        _: Outlets,
        _: &[OsString],
        _: Vec<Variable>,
    ) -> Result<(Self, Within), Fault> {
        Err(Fault::new("cannot make a jail", "only Linux has one", "").because(Cause::System))
    }

    /// There is nothing to open.
    ///
    /// # Errors
    ///
    /// None.
    pub fn open(self) -> Result<Child, Fault> {
        match self {}
    }
}
