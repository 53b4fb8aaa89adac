//! The inputs of a stage.

use std::collections::BTreeMap;

use crate::files;

/// Everything that determines the output of a stage: settings by dotted key, checksums of files and bundles by role.
pub type Inputs = BTreeMap<String, String>;

/// SHA-256 of all inputs, in hexadecimal.
pub fn digest(inputs: &Inputs) -> String {
    let text: String = inputs.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    files::digest(text.as_bytes())
}
