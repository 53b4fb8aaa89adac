//! What a stage is made from.

use std::collections::BTreeMap;

use crate::files;

/// What decides the outcome of a stage: settings by their dotted key, checksums of files and bundles by
/// their role.
pub type Inputs = BTreeMap<String, String>;

/// SHA-256 over all inputs, in hex.
pub fn digest(inputs: &Inputs) -> String {
    let text: String = inputs.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    files::digest(text.as_bytes())
}
