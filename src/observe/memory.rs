//! What `exeat run` remembers of its proxy's records, to tell of it at the end.
//!
//! Bounded, whatever is asked for, and written nowhere: whoever is served could change a file.

use std::sync::{Mutex, PoisonError};

use super::{Demand, Record, Refusals};

/// The records of one proxy so far, in short.
#[derive(Debug)]
pub struct Memory {
    /// What the policy is against.
    pub refusals: Refusals,
    demand: Mutex<Demand>,
}

/// Whoever asks for more destinations gets a number for the rest.
const MAX_DESTINATIONS: usize = 10_000;

impl Memory {
    /// What was asked for so far.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, record: &Record) {
        self.refusals.note(record);
        self.demand.lock().unwrap_or_else(PoisonError::into_inner).note(record);
    }
}

impl Default for Memory {
    fn default() -> Self {
        let demand = Mutex::new(Demand::with_room_for(MAX_DESTINATIONS));
        Self { refusals: Refusals::default(), demand }
    }
}
