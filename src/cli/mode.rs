//! `--mode`, which `serve` and `run` share.

use clap::ValueEnum;

use crate::policy::Mode;

/// What happens to hosts that no rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
    Enforce,
    Observe,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Enforce => Self::Enforce,
            ModeArg::Observe => Self::Observe,
        }
    }
}
