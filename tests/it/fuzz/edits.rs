//! Random edits of a valid input: such inputs get further than random bytes do.

use bolero::{Driver, ValueGenerator};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kind, place (a share of the length), and what is put there.
type Edit = (u8, u16, [u8; 4]);

pub type Edits = Vec<Edit>;

/// The index of a valid input, and its edits.
#[derive(Debug)]
pub struct Input {
    /// Of inputs in order.
    #[expect(dead_code, reason = "a failure prints it")]
    pub number: Option<u32>,
    pub seed: usize,
    pub edits: Edits,
}

/// Draws one of so many valid inputs and one to three edits, each from bolero's bytes: libFuzzer can change one edit
/// and keep the others. In order, bolero counts from zero and each number stands for random edits.
pub struct Inputs {
    pub seeds: usize,
    /// The first number of inputs in order.
    pub in_order_from: Option<u32>,
}

impl ValueGenerator for Inputs {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        if let Some(first) = self.in_order_from {
            let number = first.wrapping_add(driver.produce()?);
            let mut random = ChaCha8Rng::seed_from_u64(u64::from(number));
            let seed = random.random_range(0..self.seeds);
            return Some(Input { number: Some(number), seed, edits: random_edits(&mut random) });
        }
        let seed = (0..self.seeds).generate(driver)?;
        let count = (1..4_usize).generate(driver)?;
        let mut edits = Edits::new();
        for _ in 0..count {
            edits.push(driver.produce::<Edit>()?);
        }
        Some(Input { number: None, seed, edits })
    }
}

/// Words that parsers take for something.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"<",
    b">",
    b"&",
    b"\r\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"null",
    b"-1",
    b"1e999",
    b"%s",
    b"\\u0000",
    b"18446744073709551615",
];

pub fn edited(input: &[u8], edits: &Edits) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for (kind, place, with) in edits {
        let at = usize::from(*place) * bytes.len() / (usize::from(u16::MAX) + 1);
        let length = usize::from(with[0]).min(bytes.len() - at);
        match kind % 8 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (with[0] % 8),
            1 if at < bytes.len() => bytes[at] = with[0],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => drop(bytes.splice(at..at, WORDS[usize::from(with[0]) % WORDS.len()].iter().copied())),
            5 => bytes.truncate(at),
            // A number of four bytes, which is what lengths are.
            6 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(with),
            _ => drop(bytes.splice(at..at, *with)),
        }
    }
    bytes
}

/// One to three.
pub fn random_edits(random: &mut ChaCha8Rng) -> Edits {
    (0..random.random_range(1..4)).map(|_| (random.random(), random.random(), random.random())).collect()
}

pub fn edited_text(input: &str, edits: &Edits) -> String {
    String::from_utf8_lossy(&edited(input.as_bytes(), edits)).into_owned()
}
