//! Emoji put into a sentence and its translation.

use super::Sides;
use crate::train::rng::Rng;

/// The most used ones; a model that copies these as bytes copies others.
const EMOJI: &[&str] = &[
    "😂", "❤️", "🤣", "👍", "😭", "🙏", "😘", "🥰", "😍", "😊", "🎉", "😁", "💕", "🥺", "😅", "🔥", "☺️",
    "🤦", "♥️", "🤷", "🙄", "😆", "🤗", "😉", "🎂", "🤔", "👏", "🙂", "😳", "🥳", "😎", "👌", "💜", "😔",
    "💪", "✨", "💖", "👀", "😋", "😏", "✅", "⚠️", "🚀", "📌", "📷", "🎵", "☀️", "🌙", "🐶", "🍕", "⚽",
    "👋",
];

/// One emoji at the same relative place between the words of both sides; half of them at the end, where most stand.
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
