//! What happened, for people and machines: audit records, counters, the log.
//!
//! Nothing here decides, and nothing here may slow traffic down: records go through a bounded
//! queue, and what does not fit is counted.

mod audit;
mod counters;
mod demand;
mod log;
mod memory;
mod record;
mod refusals;
mod trail;

pub use audit::{Audit, AuditEnd, AuditError, AuditOutput};
pub use counters::{Counter, Counters, LimitCounters, TimeoutCounters};
pub use demand::Demand;
pub use log::{LogError, start_log};
pub use memory::Memory;
pub use record::{Caller, Destination, Ending, Inside, Protocol, Record, Refused, Subject};
pub use refusals::Refusals;
pub use trail::Trail;
