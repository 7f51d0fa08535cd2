//! Several requirements documents, and the one policy that follows from them.
//!
//! Pure. So far there are two layers: the document that was chosen, and the system's, whose denies
//! apply whatever was chosen. Nothing here reads a file.

mod layers;

pub use layers::{Applied, Layer, Rejected, apply};
