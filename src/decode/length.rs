//! Which target lengths are tried. Mask-predict fixes the length before the first pass.

/// Returns the `beam` most probable inner lengths, most probable first, ties to the shorter; `beam` counts as at
/// least 1. `length_log_probs[l]` is the log-probability of `l` inner tokens.
///
/// Length 0 and lengths with a log-probability of `-inf` or NaN are skipped, so the result may be shorter than
/// `beam`; it is empty if no length is possible.
pub fn length_beam(length_log_probs: &[f32], beam: usize) -> Vec<usize> {
    let beam = beam.max(1);
    let mut best: Vec<usize> = Vec::with_capacity(beam.min(length_log_probs.len()));
    for length in (1..length_log_probs.len()).filter(|&l| length_log_probs[l].is_finite()) {
        let no_worse = |&other: &usize| length_log_probs[other].total_cmp(&length_log_probs[length]).is_ge();
        let place = best.partition_point(no_worse);
        if place < beam {
            best.truncate(beam - 1);
            best.insert(place, length);
        }
    }
    best
}

/// Returns the `beam` numbers of slots that are tried for an Imputer: `count`, then `count` ∓ 1, ∓ 2 and so on,
/// within `1..=max`. `beam` counts as at least 1.
pub fn slot_beam(count: usize, max: usize, beam: usize) -> Vec<usize> {
    let fewer_and_more = (1..).flat_map(|by| [count.checked_sub(by), count.checked_add(by)]);
    let possible = |slots: &usize| (1..=max).contains(slots);
    let near = fewer_and_more.take(2 * count.max(max)).flatten();
    std::iter::once(count).chain(near).filter(possible).take(beam.max(1)).collect()
}

#[cfg(test)]
mod tests;
