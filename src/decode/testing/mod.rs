//! What only tests and benches use; outside of this crate with the feature `testing`.

pub mod fake;
