//! The map.
pub mod net;
pub mod policy;
