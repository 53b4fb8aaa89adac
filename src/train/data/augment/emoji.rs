//! Inserts emoji into a sentence and its translation.

use super::Sides;
use crate::train::rng::Rng;

/// The most common emoji. A model that learns to copy their bytes copies others, too.
const EMOJI: &[&str] = &[
    "😂", "❤️", "🤣", "👍", "😭", "🙏", "😘", "🥰", "😍", "😊", "🎉", "😁", "💕", "🥺", "😅", "🔥", "☺️",
    "🤦", "♥️", "🤷", "🙄", "😆", "🤗", "😉", "🎂", "🤔", "👏", "🙂", "😳", "🥳", "😎", "👌", "💜", "😔",
    "💪", "✨", "💖", "👀", "😋", "😏", "✅", "⚠️", "🚀", "📌", "📷", "🎵", "☀️", "🌙", "🐶", "🍕", "⚽",
    "👋",
];

/// Inserts one emoji between words, at the same relative position on both sides. Half of them go to the end, where
/// most emoji occur.
pub fn insert(sides: &Sides<String>, rng: &mut Rng) -> Sides<String> {
    let emoji = EMOJI[rng.below(EMOJI.len())];
    let place = if rng.uniform() < 0.5 { 1.0 } else { rng.uniform() };
    [0, 1].map(|side| {
        let mut words: Vec<&str> = sides[side].split_whitespace().collect();
        let at = (place * words.len() as f32).round() as usize;
        words.insert(at.min(words.len()), emoji);
        words.join(" ")
    })
}
