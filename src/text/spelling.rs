//! The bytes of each token, computed once, so that decoding copies bytes. The tokenizer's library looks up every
//! token's name and every character of it.
//!
//! A byte-level vocabulary spells each byte as one visible character (Radford et al. 2019): visible bytes as
//! themselves, the other 68 as the characters from U+0100 on, in order.

/// The bytes of all tokens.
#[derive(Debug)]
pub struct Spellings {
    bytes: Vec<u8>,
    /// The end of each token in `bytes`.
    ends: Vec<usize>,
}

impl Spellings {
    /// Takes the names of the tokens in the vocabulary, from id 0 on. An empty name means no bytes.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for name in names {
            match name.chars().map(byte).collect::<Option<Vec<u8>>>() {
                Some(spelt) => bytes.extend(spelt),
                // A name outside the byte alphabet stands for itself, as in the library.
                None => bytes.extend(name.bytes()),
            }
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    /// The bytes of a token; `None` for an id outside the vocabulary.
    pub fn of(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = id.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(id)?)
    }
}

/// The byte that this character spells.
fn byte(spelt: char) -> Option<u8> {
    let code = u32::from(spelt);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        // 0 to 32, 127, 128 to 160, 173
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests;
